"""Making the models of a run in the order of their graph: trainings side by side, merges and searches in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from search._training import heldout, merges
from search._training.live import LiveTrainings
from search._training.measure import Measure, objective
from search._training.model import Model, is_made, missing, needed
from search._training.queue import UNMADE, Trainings, with_mixture
from search._training.worker import Placing, trial
from search.run.progress import Display
from search.run.rundir import Run
from search.scoring.objective import Grader, ScorerFactory
from trainers._types import TrainSpec

SECONDS_PER_STEP_LIMIT = 600.0  # a step that takes longer than ten minutes is taken for hung
START_LIMIT_S = 900.0
GROUP_START_LIMIT_S = 180.0

Searching = Callable[[Model], None]
"""Makes a model that is picked from the front of an earlier search."""


class TrainingFailed(RuntimeError):
    """Models that could not be made, one line each; what was made is kept."""


def make(
    run: Run,
    wanted: Sequence[Model],
    known: Sequence[Model],
    graders: Sequence[Grader],
    display: Display,
    search: Searching,
) -> None:
    """Make the models `wanted`, and all that they are made of; the cluster is open.

    Args:
        run: open.
        wanted: models of `known`.
        known: all models of the run.
        graders: evaluators with their items, for tuned trainings.
        display: where progress is shown.
        search: carries out an earlier search and writes its pick.

    Raises:
        TrainingFailed: naming each model that failed and why; the others are kept.
    """
    by_name = {model.name: model for model in known}
    failed: dict[str, str] = {}
    while True:
        left = [model for model in missing(needed(known, [m.name for m in wanted])) if model.name not in failed]
        ready = [model for model in left if all(is_made(by_name[name]) for name in _made_of(model))]
        between = [model for model in ready if not model.trains]
        trainings = [model for model in left if model.trains and _by_training(model, by_name, failed)]
        if between:
            for model in between:
                _between(run, model, by_name, search, failed)
        elif any(model in ready for model in trainings):
            failed |= train(run, trainings, known, graders, display)
        else:
            failed |= {model.name: UNMADE for model in left}
            break
    if failed:
        raise TrainingFailed("\n".join(f"{name}: {reason}" for name, reason in failed.items()))


def train(
    run: Run, models: Sequence[Model], known: Sequence[Model], graders: Sequence[Grader], display: Display
) -> dict[str, str]:
    """Train models whose ancestors exist or are trained along, all in one Ray Tune run; name -> reason of failures."""
    from cluster.trials import run_queue

    trainers = run.recipe.cluster.trainers
    per_trial = {"CPU": trainers.cpus * trainers.workers, "GPU": trainers.gpus * trainers.workers}
    live = LiveTrainings(display)
    failed: dict[str, str] = {}
    measures: dict[str, Measure] = {}
    split: dict[str, TrainSpec] = {}
    for model in models:
        if model.tuning is not None:
            try:
                measures[model.name] = _measure(run, model, known, graders, split)
            except heldout.NothingHeldOut as error:
                failed[model.name] = str(error)
    work = Trainings(run, [m for m in models if m.name not in failed], known, split, live)
    cluster = run.recipe.cluster
    # Nodes that an autoscaler has yet to start take minutes: as long as evaluator actors may wait for theirs.
    patience = cluster.evaluators.start_timeout if cluster.elastic else GROUP_START_LIMIT_S
    placing = Placing(
        str(run.scratch / "train"), trainers.workers, trainers.cpus, trainers.gpus, cluster.elastic, patience
    )
    steps = sum(m.spec.steps * (m.tuning.trials if m.tuning else 1) for m in models if m.spec)
    with live.open():
        run_queue(
            partial(trial, placing=placing, measures=measures),
            work,
            name="experts",
            storage=fresh(run.scratch / "tune"),
            resources=[{}],
            concurrency=concurrency(per_trial),
            on_report=work.report,
            on_result=work.end,
            stop=work.stop if any(m.tuning is not None and m.tuning.halving for m in models) else None,
            time_limit_s=START_LIMIT_S + patience + steps * SECONDS_PER_STEP_LIMIT,
        )
    failed |= work.failed
    failed |= {m.name: "was interrupted" for m in models if m.name not in failed and not is_made(m)}
    return failed


def fresh(folder: Path) -> Path:
    """The folder, emptied: Tune would take what an earlier run of the same name left there for its own state."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def concurrency(per_trial: Mapping[str, float]) -> int:
    """As many trainings at once as the cluster holds: Tune does not see what the worker groups take (Ray docs)."""
    import ray

    have = ray.cluster_resources()
    fits = [int(have.get(kind, 0.0) / amount + 1e-9) for kind, amount in per_trial.items() if amount > 0]
    return max(1, min(fits, default=1))


def _between(run: Run, model: Model, known: Mapping[str, Model], search: Searching, failed: dict[str, str]) -> None:
    """A step that is no training. What it raises for bad input fails this model alone; the run's own errors end it."""
    from mergers._errors import InputError

    if model.made == "picked":
        search(model)
        return
    try:
        merges.merge(run, model, known)
    except InputError as error:
        failed[model.name] = str(error)


def _by_training(model: Model, known: Mapping[str, Model], failed: Mapping[str, str]) -> bool:
    """Whether a training can come about in this Tune run: all that it still lacks is trained too, and has not failed.

    A tuned one needs its mixture before the run begins, since its rows are divided then.
    """
    if model.tuning is not None and model.mixture is not None and not is_made(known[model.mixture]):
        return False
    lacking = [known[name] for name in _made_of(model) if not is_made(known[name])]
    return all(other.name not in failed and other.trains and _by_training(other, known, failed) for other in lacking)


def _made_of(model: Model) -> tuple[str, ...]:
    return (*model.parents, *([model.mixture] if model.mixture else []))


def _measure(
    run: Run,
    model: Model,
    known: Sequence[Model],
    graders: Sequence[Grader],
    split: dict[str, TrainSpec],
) -> Measure:
    assert model.tuning is not None
    assert model.spec is not None
    base, recipe = str(next(m.path for m in known if m.kind == "base")), run.recipe
    onto = "" if model.onto is None else str(model.onto)
    dtype, engine = recipe.export.dtype, "transformers"  # a worker of a training has no room for another server
    if not model.tuning.holdout:
        return objective(base, tuple(graders), model.tuning.metric, dtype, engine, onto)
    found = next((m for m in known if m.name == model.mixture), None)
    spec = with_mixture(model.spec, found)
    files = run.scratch / "heldout" / model.hash
    divided, held, shares = heldout.split(spec, model.tuning.holdout, files)
    split[model.name] = divided
    return Measure(ScorerFactory(base, held, dtype, engine), "", onto, shares)
