"""The run directory: made once, locked while a driver works on it, refused to any other recipe.

RUN/recipe.yaml  recipe.lock.json  study.db  items/  experts/<hash>/  exports/<pick>/  report.html  front.csv  log.jsonl
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search._study.place import open_study, study_at
from search._study.place import write_atomic as write_atomic
from search.errors import Problem, UserError
from search.recipe import LOCK, RECIPE, Recipe, load_recipe
from search.store import SCHEMA_VERSION, Store

from . import journal


@dataclass(frozen=True)
class Run:
    """An open run directory: `path`, its `recipe`, and its database; `milestone` is told when a stage has ended."""

    path: Path
    recipe: Recipe
    store: Store
    milestone: Callable[[], None] = lambda: None

    def __reduce__(self) -> tuple[Any, ...]:
        return Run, (self.path, self.recipe, self.store)  # who is told of stages lives in this process

    @property
    def items(self) -> Path:
        """Folder of per-item results."""
        return self.path / "items"

    @property
    def experts(self) -> Path:
        """Folder of checkpoints that were made, one sub-folder for each address; an earlier search uses its run's."""
        return (self.path.parent.parent if self.recipe.earlier else self.path) / "experts"

    @property
    def scratch(self) -> Path:
        """Folder of what is needed only until the run ends: checkpoints to resume from, files of Ray."""
        return self.path / "scratch"


def is_run(path: Path) -> bool:
    """Whether `path` is a run directory."""
    return (path / LOCK).is_file()


def recipe_of(path: Path) -> Recipe:
    """The recipe of an existing run directory; relative paths count from where the recipe lay when the run began.

    Raises:
        UserError: no run directory, or one that a newer version wrote.
    """
    if not is_run(path):
        rule = "must be a run directory" if path.exists() else "there is no such directory"
        raise UserError(Problem(str(path), None, "", rule, remedy="give the directory that `mergefront run` made"))
    lock = json.loads((path / LOCK).read_text(encoding="utf-8"))
    if lock["schema"] > SCHEMA_VERSION:
        rule = f"this run was written by a newer mergefront (schema {lock['schema']}, known here: {SCHEMA_VERSION})"
        raise UserError(Problem(str(path), None, "", rule, remedy="update mergefront"))
    recipe = load_recipe(path)
    return recipe.for_search(lock["earlier"]) if lock.get("earlier") else recipe


def contents_of(path: Path) -> dict[str, str]:
    """Name of each input of a run (base, data file, evaluator) -> content hash, as the run found them."""
    found: dict[str, str] = json.loads((path / LOCK).read_text(encoding="utf-8"))["contents"]
    return found


@contextmanager
def open_run(
    recipe: Recipe, path: Path, contents: Mapping[str, str], milestone: Callable[[], None] = lambda: None
) -> Iterator[Run]:
    """Make or reopen a run directory and hold it until the end; the lock dies with this process.

    Args:
        recipe: of the run; `search.check` has accepted it for `path`.
        path: the directory.
        contents: name of each input (base, data file) -> its content hash.
        milestone: called when a stage has ended.

    Raises:
        UserError: another process works on it, an input has changed since the run began, or its database cannot be
            opened.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("a+") as guard:
        _take(guard, path)
        if is_run(path):
            _same_inputs(recipe, path, contents)
        store = open_study(recipe, path)
        try:
            _write_lock(recipe, path, contents)
            for folder in ("items", "experts", "exports"):
                (path / folder).mkdir(exist_ok=True)
            store.take_over()
            yield Run(path, recipe, store, milestone)
        finally:
            store.close()


@contextmanager
def read_run(path: Path) -> Iterator[Run]:
    """Open an existing run directory for reading; a driver may be working on it.

    Raises:
        UserError: no run directory.
    """
    recipe = recipe_of(path)
    store = study_at(recipe, path)
    try:
        store.complete()
        yield Run(path, recipe, store)
    finally:
        store.close()


def log(run: Run, event: str, **detail: Any) -> None:
    """Append a line to log.jsonl."""
    journal.write(run.path, event, **detail)


def is_held(path: Path) -> bool:
    """Whether a driver on this machine works on the run."""
    try:
        with (path / ".lock").open("a+") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _take(guard: Any, path: Path) -> None:
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        guard.seek(0)
        rule = f"another mergefront process works on this run (pid {guard.read().strip() or 'unknown'})"
        remedy = "wait for it, stop it, or give another --out"
        raise UserError(Problem(str(path), None, "", rule, remedy=remedy)) from None
    guard.seek(0)
    guard.truncate()
    guard.write(str(os.getpid()))
    guard.flush()


def _same_inputs(recipe: Recipe, path: Path, contents: Mapping[str, str]) -> None:
    lock = json.loads((path / LOCK).read_text(encoding="utf-8"))
    known = {_anywhere(name, lock["directory"]): digest for name, digest in lock["contents"].items()}
    now = {_anywhere(name, str(recipe.directory)): digest for name, digest in contents.items()}
    changed = [name for name in known if now.get(name) != known[name]]
    if changed:
        rule = f"{changed[0]} has changed since this run began"
        remedy = "put the old content back, or give another --out to begin a new run"
        raise UserError(Problem(str(path), None, "", rule, remedy=remedy))


def _anywhere(name: str, directory: str) -> str:
    """An input's name without the place of this machine's copy: the recipe's folder, or the cache of what URLs name."""
    section, _, file = name.partition(": ")
    file = re.sub(r"^.*/storage/inputs/[0-9a-f]{16}/copy/", "", file.removeprefix(f"{directory.rstrip('/')}/"))
    return f"{section}: {file}" if file else section


def _write_lock(recipe: Recipe, path: Path, contents: Mapping[str, str]) -> None:
    """Keep the recipe as given; one that only adds candidates or picks replaces the earlier."""
    given = Path(recipe.file)
    if given.resolve() == (path / RECIPE).resolve():
        return
    lock = {**recipe.lock(), "schema": SCHEMA_VERSION, "contents": dict(contents)}
    write_atomic(path / RECIPE, given.read_text(encoding="utf-8"))
    write_atomic(path / LOCK, json.dumps(lock, indent=2, ensure_ascii=False) + "\n")


def locate(
    recipe: Recipe | str | Path, out: str | Path | None, directory: str | Path | None = None
) -> tuple[Recipe, Path]:
    """A recipe, its file or a run directory -> the recipe and its run directory, absolute: workers have other folders.

    Raises:
        UserError: neither a recipe nor a run directory, or a run directory together with another `out`.
    """
    if isinstance(recipe, Recipe):
        return recipe, (Path(out) if out is not None else _beside(recipe)).absolute()
    path = Path(recipe)
    if path.is_dir():
        if out is not None and Path(out).resolve() != path.resolve():
            rule = "a run directory has its place already"
            raise UserError(Problem(str(path), None, "--out", rule, str(out), "leave --out away, or give the recipe"))
        return recipe_of(path), path.absolute()
    loaded = load_recipe(path, directory=directory)
    return loaded, (Path(out) if out is not None else _beside(loaded)).absolute()


def _beside(recipe: Recipe) -> Path:
    """Where a recipe's run lies when the command line does not say: its `storage`, relative to the recipe."""
    return recipe.directory / recipe.storage
