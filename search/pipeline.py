"""The whole story: check, experts, search, confirm, export, report. Each stage skips what is done, so a run resumes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import earlier, experts, searches
from ._check import contamination
from ._training.execute import make
from .experts import Model
from .recipe import Recipe
from .results import export, history
from .results.document import front_document
from .run import fork as forking
from .run.progress import Display
from .run.rundir import Run, log, open_run
from .scoring.bench import Bench
from .scoring.graders import grader_hashes, load_graders
from .scoring.objective import AS_IT_IS, Grader, Job
from .scoring.points import Target, confirm, score_models
from .statistics import aggregates
from .statistics.repeats import deserving


def run_recipe(
    recipe: Recipe,
    out: Path,
    display: Display,
    *,
    until: str = "run",
    fork: Path | None = None,
    milestone: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Carry a recipe out, or go on where an earlier process stopped; the front document at the end.

    Args:
        recipe: accepted by `search.check.check` for `out`.
        out: run directory; made if it does not exist.
        display: where progress is shown.
        until: `train` ends when the models exist, `search` when the candidates are scored, `run` does everything.
        fork: run directory whose experts and scores are taken over as far as they are still valid.
        milestone: called when a stage has ended.

    Raises:
        UserError, InputError: bad input; exit status 2.
        TrainingFailed, ScoringFailed, SearchesFailed, TimeoutError: the run failed; what ran is kept.
    """
    graders = load_graders(recipe)
    hashes = experts.input_hashes(recipe) | grader_hashes(graders)
    with open_run(recipe, out, hashes, milestone) as run:
        known = experts.plan(recipe, run.experts, hashes)
        models = experts.scored(recipe, known)
        if fork is not None:
            display.line(f"fork of {fork}: {forking.fork(run, models, hashes, fork)}")
        experts.check_seals(known)
        if _is_finished(run, models):
            display.line(f"{out}: this run is finished, nothing to do; `mergefront front {out}` shows its front")
            return front_document(recipe, run.store, run.path)
        if run.store.get("contamination") is None:
            found = contamination.compare(recipe, contamination.items_of(graders))
            run.store.put("contamination", [asdict(one) for one in found])
        if until != "train" or experts.missing(models):
            with Bench(run, str(models[0].path), graders) as bench:
                _make(run, known, graders, bench, hashes, display)
                if until != "train":
                    compute(run, models, graders, bench, display, until)
        document = front_document(recipe, run.store, run.path)
        if until == "run":
            document = _finish(run, known, document, display)
        return document


def _make(
    run: Run,
    known: Sequence[Model],
    graders: Sequence[Grader],
    bench: Bench,
    contents: Mapping[str, str],
    display: Display,
) -> None:
    """The models that do not exist yet, and the scores that earlier searches of this run have given them."""
    missing = experts.missing(experts.scored(run.recipe, known))
    if missing:
        with _stage(run, display, "experts", f"{len(missing)} to make: {', '.join(m.name for m in missing)}"):
            bench.open()

            def search(model: Model) -> None:
                earlier.search(run, model, known, graders, bench, contents, display, compute)
                bench.release()  # evaluator actors hold processors that trainings wait for

            make(run, missing, known, graders, display, search)
    earlier.take_over(run, experts.scored(run.recipe, known), contents, run.path / earlier.FOLDER)


def compute(
    run: Run, models: Sequence[Model], graders: Sequence[Grader], bench: Bench, display: Display, until: str
) -> None:
    """The stages after the models exist: scores of the unmerged, search, confirmation."""
    _enter(run, models, graders)
    targets = _unscored(run, models)
    if targets:
        with _stage(run, display, "score", f"{len(targets)} unmerged models"), display.bars():
            score_models(run, bench.pool(), targets, graders, display.bar("models", len(targets)))
    _fix_reference(run)
    plans = searches.plan_searches(run, models, graders)
    if searches.unfinished(run.store, plans):
        what = f"{run.recipe.search.candidates} candidates by {', '.join(plan.name for plan in plans)}"
        with _stage(run, display, "search", what):
            searches.search_under_tune(run, plans, bench.pool(), display)
    if until == "search":
        return
    chosen = _to_confirm(run, models)
    if chosen:
        with _stage(run, display, "confirm", f"{len(chosen)} points on the report split"), display.bars():
            confirm(run, bench.pool(), chosen, graders, display.bar("points", len(chosen)))


def _finish(run: Run, known: Sequence[Model], document: dict[str, Any], display: Display) -> dict[str, Any]:
    models = experts.scored(run.recipe, known)
    from .report import write_report
    from .results.table import nothing_line

    picks = run.recipe.export.picks
    if not document["picks"]:
        # What was scored is worth its report; the picks of a front that nobody is on are not an error of theirs.
        display.line(f"export: {nothing_line(document)}")
        ids = {row["id"] for row in document["points"]}
        picks = tuple(pick for pick in picks if pick.lstrip("#") in ids)
    wanted = export.resolve_picks(document, picks)
    with _stage(run, display, "export", ", ".join(f"{pick} = {point}" for pick, point in wanted.items())):
        for pick, point in wanted.items():
            export.export(run, models, document, point, run.path / "exports" / pick, replace=True)
    with _stage(run, display, "report", "report.html, front.csv"):
        write_report(document, history.history_of(run, known), run.path)
    limits = run.recipe.search.stop.model_dump(mode="json")
    run.store.log("finished", candidates=run.recipe.search.candidates, stop=limits)
    shutil.rmtree(run.scratch, ignore_errors=True)
    return document


def _is_finished(run: Run, models: Sequence[Model]) -> bool:
    """Whether a run of this very recipe came to its end, and what it left is still there."""
    ends = run.store.events("finished")
    if not ends or experts.missing(models) or not (run.path / "report.html").is_file():
        return False
    exports = [run.path / "exports" / pick for pick in run.recipe.export.picks]
    limits = run.recipe.search.stop.model_dump(mode="json")
    same = ends[-1]["candidates"] == run.recipe.search.candidates and ends[-1].get("stop", limits) == limits
    return same and all(path.is_dir() for path in exports)


def _enter(run: Run, models: Sequence[Model], graders: Sequence[Grader]) -> None:
    """Enter the unmerged models, and what the report needs to know of the items."""
    for model in models:
        run.store.add_model(model.name, model.kind, f"{model.kind}:{model.name}:{model.hash}")
    for split in ("search", "report"):
        run.store.put(f"groups.{split}", {g.name: [item.group for item in g.split(split)] for g in graders})
        run.store.put(f"languages.{split}", {g.name: [item.language for item in g.split(split)] for g in graders})


def _unscored(run: Run, models: Sequence[Model]) -> list[Target]:
    open_points = {point.id for point in run.store.points() if point.state != "COMPLETE"}
    return [Target(m.name, Job(AS_IT_IS, (m.reference,), "search")) for m in models if m.name in open_points]


def _fix_reference(run: Run) -> None:
    """State the reference point once: all searches of the run, now and after a resume, measure from it."""
    import numpy as np

    from .statistics.front import reference_point

    if run.store.get("reference") is None:
        objectives = run.recipe.search.objectives
        unmerged = [point.id for point in run.store.points() if point.kind != "merge"]
        scores = run.store.scores("search", unmerged)
        reached = [aggregates.objective_scores(objectives, scores[point]) for point in unmerged]
        values = np.array([[reached_on[name].value for name in objectives] for reached_on in reached])
        run.store.put("reference", reference_point(values, tuple(objectives.values())).tolist())


def _to_confirm(run: Run, models: Sequence[Model]) -> list[Target]:
    """The unmerged models, the front of the search and what may belong to it, less what is confirmed already."""
    known = run.store.scores("report")
    rows = front_document(run.recipe, run.store, run.path, split="search")["points"]
    chosen = deserving([row["on_front"] for row in rows], [row["p_on_front"] for row in rows])
    front = {rows[index]["id"] for index in chosen}
    targets = [Target(model.name, Job(AS_IT_IS, (model.reference,), "report")) for model in models]
    for point in run.store.points():
        if point.kind == "merge" and point.id in front:
            targets.append(Target(point.id, Job(*export.recipe_of(run, models, point.id), "report")))
    return [target for target in targets if target.point not in known]


@contextmanager
def _stage(run: Run, display: Display, name: str, what: str) -> Iterator[None]:
    display.line(f"{name}: {what}")
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    run.store.log("stage", name=name, seconds=seconds)
    log(run, "stage", name=name, seconds=seconds)
    run.milestone()
