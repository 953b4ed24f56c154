"""The public functions behind `import mergefront`: what the commands do, for programs and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .recipe import Recipe
from .run.progress import Display


def run(recipe: Recipe | str | Path, out: str | Path | None = None, *, quiet: bool = False) -> dict[str, Any]:
    """Carry a recipe out, or go on with its run directory; the front document.

    Args:
        recipe: a recipe, its file, or an existing run (directory or URL).
        out: run directory or URL; by default the recipe's `storage`.
        quiet: show no progress.

    Raises:
        UserError: bad input; nothing was written.
        RuntimeError: the run failed; what ran is kept, and the same call goes on with it.
    """
    from .check import check
    from .pipeline import run_recipe
    from .run.place import place_of

    display = Display(quiet=quiet)
    with place_of(recipe, out, display.line) as place:
        check(place.recipe, out=place.path)
        with place.held() as milestone:
            return run_recipe(place.recipe, place.path, display, milestone=milestone)


def front(run: str | Path, *, objectives: Sequence[str] = ()) -> dict[str, Any]:
    """The front document of a run (see `search.results.document.front_document`), also while it is under way.

    Raises:
        UserError: no run directory, or an objective that its recipe does not have.
    """
    from .results.document import front_document
    from .run.place import read_place, without_weights
    from .run.rundir import read_run

    with read_place(run, without_weights) as path, read_run(path) as opened:
        return front_document(opened.recipe, opened.store, opened.path, objectives=objectives)


def export(run: str | Path, picks: Sequence[str], out: str | Path) -> tuple[Path, ...]:
    """Write points of a run's front as checkpoints.

    Args:
        run: run directory, or its URL.
        picks: `knee`, `safest`, `best-OBJECTIVE`, or ids with or without `#`.
        out: the directory to make; with several picks, the folder that will hold one directory for each.

    Returns:
        The directories, in the order of `picks`.

    Raises:
        UserError: a pick that names no point, or a directory that holds something else.
    """
    from .experts import models
    from .results import export as exporting
    from .results.document import front_document
    from .run.place import read_place, with_exports
    from .run.rundir import contents_of, read_run

    with read_place(run, with_exports) as path, read_run(path) as opened:
        document = front_document(opened.recipe, opened.store, opened.path)
        wanted = exporting.resolve_picks(document, picks)
        targets = {name: Path(out) if len(wanted) == 1 else Path(out) / name.lstrip("#") for name in wanted}
        # A run that ran elsewhere: what it exported needs no base here.
        copied = [name for name, point in wanted.items() if exporting.copied(opened, point, targets[name])]
    if len(copied) < len(wanted):
        with read_place(run) as path, read_run(path) as opened:
            known = models(opened.recipe, opened.experts, contents_of(opened.path))
            for name, point in wanted.items():
                if name not in copied:
                    exporting.export(opened, known, document, point, targets[name])
    return tuple(targets.values())


def report(run: str | Path) -> tuple[Path, Path]:
    """Write report.html and front.csv of a run again; their paths (of a run at a URL: in its local copy).

    Raises:
        UserError: no run directory.
    """
    from .experts import plan
    from .report import write_report
    from .results.document import front_document
    from .results.history import history_of
    from .run.place import publishing
    from .run.rundir import contents_of, read_run

    with publishing(run) as path, read_run(path) as opened:
        document = front_document(opened.recipe, opened.store, opened.path)
        known = plan(opened.recipe, opened.experts, contents_of(opened.path))
        return write_report(document, history_of(opened, known), opened.path)


def confirm(run: str | Path, points: Sequence[str]) -> None:
    """Score points of a run on its report split, those that have no scores there yet.

    Args:
        run: run directory; `RUN/searches/NAME` for an earlier search.
        points: ids, with or without `#`.

    Raises:
        UserError: no run directory, another process works on it, or a point that it does not have.
        ScoringFailed: a point that was scored before cannot be scored now.
    """
    from .errors import Problem, UserError
    from .experts import models
    from .results.export import recipe_of as merge_of
    from .run.rundir import contents_of, open_run, recipe_of
    from .scoring.bench import Bench
    from .scoring.graders import load_graders
    from .scoring.objective import Job
    from .scoring.points import Target
    from .scoring.points import confirm as score

    path = Path(run).absolute()
    recipe, contents = recipe_of(path), contents_of(path)
    with open_run(recipe, path, contents) as opened:
        held, known = opened.store.scores("report"), {point.id for point in opened.store.points()}
        wanted = [point.lstrip("#") for point in points]
        missing = [point for point in wanted if point not in known]
        if missing:
            raise UserError(Problem(str(path), None, "", "has no such point", missing[0]))
        open_points = [point for point in wanted if point not in held]
        if not open_points:
            return
        graders = load_graders(recipe)
        found = models(recipe, opened.experts, contents)
        with Bench(opened, str(found[0].path), graders) as bench:
            targets = [Target(point, Job(*merge_of(opened, found, point), "report")) for point in open_points]
            display = Display(quiet=True)
            score(opened, bench.pool(), targets, graders, display.bar("points", len(targets)))


def write_demo(out: str | Path, *, candidates: int = 96, seed: int = 0) -> Path:
    """Write the embedded demo world (base model, data, recipe) into a folder; the recipe's path.

    `seed` is the recipe's, and that of the order of the training rows; base and scored items never change.
    """
    from .demo.world import write_world

    return write_world(Path(out), candidates=candidates, seed=seed)
