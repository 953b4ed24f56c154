"""The studies of a run as an Optuna storage, for optuna-dashboard: a copy, `study.db` stays the truth."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import Problem, UserError
from search.samplers._types import STDERR
from search.store import Point, Scores, Store

if TYPE_CHECKING:
    import optuna

    from search._study.proposals import Observation

FILE = "optuna.db"


@dataclass(frozen=True)
class Copy:
    """One search, ready to be written.

    Attributes:
        name: of the Optuna study.
        objectives: name -> "max" or "min".
        space: name -> [low, high], [low, high, "log"], or ["choices", text, ...].
        points: ended ones, in the order of asking.
        observations: point id -> what the sampler was told; none for failed points.
    """

    name: str
    objectives: Mapping[str, str]
    space: Mapping[str, Sequence[Any]]
    points: tuple[Point, ...]
    observations: Mapping[str, Observation]


def export(source: Path, out: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Write the studies of a run, or of a file that `mergefront.search` filled, as an Optuna storage.

    Args:
        source: run directory, or the file of a study.
        out: file to (re)write, or a database URL, in which studies of the same names are replaced; default: optuna.db
            beside the study.

    Returns:
        The storage's URL and the studies' names.

    Raises:
        UserError: neither a run nor a study, or a storage that cannot be written.
    """
    from sqlalchemy.exc import SQLAlchemyError

    copies = _of_run(source) if source.is_dir() else _of_file(source)
    out = out or str((source if source.is_dir() else source.parent) / FILE)
    try:
        if "://" in out:
            _write(out, copies)
            return out, tuple(copy.name for copy in copies)
        target = Path(out).absolute()
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        partial.unlink(missing_ok=True)
        _write(f"sqlite:///{partial}", copies)
        partial.replace(target)
    except (SQLAlchemyError, OSError, ImportError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UserError(Problem("", None, "--out", f"cannot be written ({cause})", out)) from None
    return f"sqlite:///{target}", tuple(copy.name for copy in copies)


def _of_run(path: Path) -> list[Copy]:
    from search._study.proposals import Observation
    from search.run.rundir import read_run
    from search.statistics.aggregates import objective_scores
    from search.statistics.feasible import margins

    with read_run(path) as run:
        spec = run.recipe.search
        scores = run.store.scores("search")

        def observation(found: Scores) -> Observation:
            chosen = objective_scores(spec.objectives, found).values()
            return Observation(
                tuple(score.value for score in chosen),
                tuple(score.stderr for score in chosen),
                margins(spec.constraints, found, scores["base"]),
            )

        return [
            _copy(f"{run.recipe.name}/{name}", name, spec.objectives, space, run.store, scores, observation)
            for name in spec.methods
            if (space := run.store.get(f"space.{name}")) is not None
        ]


def _of_file(path: Path) -> list[Copy]:
    from search._recipe.constraints import margin, parse
    from search._study.proposals import Observation
    from search.function import NAME

    if not path.is_file():
        raise UserError(Problem(str(path), None, "", "there is no such run or study"))
    store = Store(path)
    try:
        store.create()
        question = store.get("question")
        if question is None:
            raise UserError(Problem(str(path), None, "", "holds no study of a function", None, "name a run directory"))
        bounds = [parse(text) for text in question["constraints"]]

        def observation(found: Scores) -> Observation:
            chosen = [found[name, ""] for name in question["objectives"]]
            return Observation(
                tuple(score.value for score in chosen),
                tuple(score.stderr for score in chosen),
                {str(bound): margin(bound, found[bound.score.evaluator, ""].value, 0.0) for bound in bounds},
            )

        scores = store.scores("search")
        return [_copy(path.stem, NAME, question["objectives"], question["space"], store, scores, observation)]
    finally:
        store.close()


def _copy(
    name: str,
    search: str,
    objectives: Mapping[str, str],
    space: Mapping[str, Sequence[Any]],
    store: Store,
    scores: Mapping[str, Scores],
    observation: Callable[[Scores], Observation],
) -> Copy:
    points = tuple(point for point in store.points(search) if point.state != "RUNNING")
    told = {point.id: observation(scores[point.id]) for point in points if point.state == "COMPLETE"}
    return Copy(name, dict(objectives), space, points, told)


def _write(url: str, copies: Sequence[Copy]) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url.replace("postgresql://", "postgresql+psycopg://"))
    held = {study.study_name for study in optuna.get_all_study_summaries(storage, include_best_trial=False)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for copy in copies:
            if copy.name in held:
                optuna.delete_study(study_name=copy.name, storage=storage)
            study = optuna.create_study(
                storage=storage,
                study_name=copy.name,
                directions=["maximize" if way == "max" else "minimize" for way in copy.objectives.values()],
            )
            study.set_metric_names(list(copy.objectives))
            study.add_trials([_trial(copy, point) for point in copy.points])
    storage.remove_session()
    storage.engine.dispose()


def _trial(copy: Copy, point: Point) -> optuna.trial.FrozenTrial:
    import optuna

    space = {name: _distribution(bounds) for name, bounds in copy.space.items() if name in point.params["values"]}
    params = dict(point.params["values"])
    for name, bounds in copy.space.items():
        if name in params and bounds[0] == "choices":
            params[name] = bounds[1 + params[name]]
    attrs: dict[str, Any] = {"id": point.id, "method": point.method, "seconds": point.seconds}
    pruned = point.state == "PRUNED"  # by a race: it has scores of some items, which are no values of the objectives
    scored: dict[str, Any] = {"state": optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.FAIL}
    told = copy.observations.get(point.id)
    if told is None:
        attrs["reason"] = point.reason
    else:
        attrs[STDERR] = list(told.stderr)
        scored = {"values": list(told.values), "constraints": dict(told.constraints)}
    if "merge" in point.params:
        attrs["merge"] = point.params["merge"]
    trial = optuna.create_trial(params=params, distributions=space, user_attrs=attrs, **scored)
    trial.datetime_start = datetime.fromtimestamp(point.asked or 0.0)
    trial.datetime_complete = datetime.fromtimestamp(point.finished or 0.0)
    return trial


def _distribution(bounds: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    import optuna

    if bounds[0] == "choices":
        return optuna.distributions.CategoricalDistribution(list(bounds[1:]))
    return optuna.distributions.FloatDistribution(bounds[0], bounds[1], log=len(bounds) == 3)
