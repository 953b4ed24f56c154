"""Where a run lies: a directory, or a URL whose working copy is a directory (`cluster.storage`)."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.storage import urls
from cluster.storage.layout import Layout
from cluster.storage.restore import everything
from search.errors import Problem, UserError
from search.recipe import LOCK, RECIPE, Recipe, load_recipe

from .rundir import is_run, locate, recipe_of

LAYOUT = Layout(database="study.db", left_out=("scratch",), hidden=(".database.json",))
is_url = urls.is_url
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """A run's directory on this machine, and its name for people; `held` is entered by who writes to it.

    What `held` yields is called whenever a stage has ended: what follows may happen on another machine.
    """

    recipe: Recipe
    path: Path
    shown: str
    held: Callable[[], AbstractContextManager[Callable[[], None]]]


@contextmanager
def place_of(
    recipe: Recipe | str | Path, out: str | Path | None, say: Say, directory: str | Path | None = None
) -> Iterator[Place]:
    """A recipe, its file or a run, and where the run lies; one at a URL is fetched first, and nothing is written there.

    Raises:
        UserError, InputError: neither a recipe nor a run, or a URL that cannot be used.
    """
    url = _url_of(recipe, out)
    if url is None:
        known, path = locate(recipe, out, directory)
        is_run_directory = not isinstance(recipe, Recipe) and Path(recipe).is_dir()
        if out is None and is_url(known.storage) and not is_run_directory:
            url = known.storage
        else:
            yield Place(known, path, str(path), lambda: nullcontext(_nothing))
            return
    from cluster.storage.working import working

    with named_by_url(url) as rename, working(url, LAYOUT, say) as copy:
        rename(copy.folder)
        if isinstance(recipe, Recipe):
            known = recipe
        elif is_url(recipe):
            recipe_of(copy.folder)  # says what is wrong with what lies there
            known = load_recipe(copy.folder, directory=directory)
        else:
            known = load_recipe(Path(recipe), directory=directory)
        yield Place(known, copy.folder, url, lambda: _writing(copy, say))


@contextmanager
def to_check(recipe: str | Path, out: str | None) -> Iterator[tuple[Recipe, Path]]:
    """A recipe, and its run's directory as far as a check looks at it.

    Raises:
        UserError, InputError: see `place_of`.
    """
    plan = load_recipe(recipe)
    url = out if out is not None else plan.storage
    if not is_url(url):
        yield locate(recipe, out)
        return
    with view(url, small) as folder:
        yield plan, folder


@contextmanager
def forked(source: str | None) -> Iterator[Path | None]:
    """The run that another begins with; refused before anything is written."""
    if source is None:
        yield None
        return
    with read_place(source) as path:
        recipe_of(path)
        yield path


@contextmanager
def publishing(run: str | Path) -> Iterator[Path]:
    """The directory of an existing run; what is written to the copy of one at a URL is published at the end."""
    if not is_url(run):
        yield Path(run).absolute()
        return
    with place_of(str(run), None, _quiet) as place, place.held():
        yield place.path


@contextmanager
def read_place(run: str | Path, wanted: Callable[[str], bool] = everything) -> Iterator[Path]:
    """The directory of an existing run; of one at a URL, the files of its newest state that are wanted."""
    if not is_url(run):
        yield Path(run).absolute()
        return
    with view(str(run), wanted) as folder:
        if not is_run(folder):
            raise UserError(
                Problem(str(run), None, "", "holds no run", remedy="give the URL that `mergefront run` wrote to")
            )
        yield folder


@contextmanager
def view(url: str, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """The files of a URL's newest state that are wanted; an empty directory if nothing is there."""
    from cluster.storage.working import reading

    with named_by_url(url) as rename, reading(url, LAYOUT, wanted) as folder:
        rename(folder)
        yield folder


def small(name: str) -> bool:
    """What says which run it is."""
    return name in (RECIPE, LOCK)


def without_weights(name: str) -> bool:
    """What tables and reports are made from."""
    return not name.endswith(".safetensors") and not name.startswith("exports/")


def with_exports(name: str) -> bool:
    """What a finished run hands out."""
    return not name.startswith("experts/") or not name.endswith(".safetensors")


@contextmanager
def named_by_url(url: str) -> Iterator[Callable[[Path], None]]:
    """Messages about a working copy name the place that the person knows."""
    folders: list[str] = []

    def renamed(text: str | None) -> Any:
        for folder in folders:
            text = text.replace(folder, url) if text is not None else None
        return text

    try:
        yield lambda folder: folders.append(str(folder))
    except UserError as error:
        fields = ("file", "rule", "value", "remedy")
        problems = (replace(p, **{name: renamed(getattr(p, name)) for name in fields}) for p in error.problems)
        raise UserError(tuple(problems)) from None


def _url_of(recipe: Recipe | str | Path, out: str | Path | None) -> str | None:
    if is_url(recipe):
        if out is not None and str(out) != str(recipe):
            rule = "a run has its place already"
            raise UserError(Problem(str(recipe), None, "--out", rule, str(out), "leave --out away, or give the recipe"))
        return str(recipe)
    return str(out) if is_url(out) else None


@contextmanager
def _writing(copy: Any, say: Say) -> Iterator[Callable[[], None]]:
    """Hold the bucket; a polite end (SIGTERM: a batch system's, Kubernetes') publishes what ran first."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if is_main:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with copy.writing(say) as milestone:
            yield milestone
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _nothing() -> None:
    pass


def _quiet(line: str) -> None:
    pass
