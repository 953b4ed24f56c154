"""The trials of a tuned training: what was tried, what is tried next, who lags, which one is best.

Everything is a function of the events that `study.db` holds (kind "trial", one for every change of a trial), so a
resumed run asks what one that was not killed would have asked. Optuna's study is rebuilt from them for every question.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from search._training.model import Tuning

State = Literal["RUNNING", "COMPLETE", "STOPPED", "FAILED"]
EVENT = "trial"


@dataclass(frozen=True)
class Trial:
    """One trial, as far as it has come.

    Attributes:
        number: from 1, in the order asked.
        params: setting -> value.
        state: STOPPED at a rung where it lagged; FAILED with its reason.
        rungs: step -> metric measured there.
        metric: at the end; None before.
        reason: why it failed, or where it was stopped.
        seconds: of training, with the measurements.
        same_as: the earlier trial with the very settings, whose result this one has; 0 if it was trained.
    """

    number: int
    params: Mapping[str, Any]
    state: State = "RUNNING"
    rungs: Mapping[int, float] = field(default_factory=dict)
    metric: float | None = None
    reason: str = ""
    seconds: float = 0.0
    same_as: int = 0


def trials_of(events: Iterable[Mapping[str, Any]], expert: str) -> list[Trial]:
    """The trials of one tuned model, in the order asked.

    Args:
        events: of kind `EVENT`, oldest first.
        expert: address of the model.
    """
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["expert"] != expert:
            continue
        row = found.setdefault(event["number"], {"rungs": {}})
        row["rungs"] = row["rungs"] | {int(event["rung"]): event["metric"]} if "rung" in event else row["rungs"]
        row |= {key: event[key] for key in ("params", "state", "reason", "seconds", "same_as") if key in event}
        if event.get("state") == "COMPLETE":
            row["metric"] = event["metric"]
    return [Trial(number=number, **row) for number, row in sorted(found.items())]


def ask(tuning: Tuning, known: Sequence[Trial], seed: int, name: str) -> dict[str, Any]:
    """The settings of the next trial, by Optuna's TPE (multivariate, with those under way counted as bad).

    Args:
        tuning: what is searched over.
        known: all trials so far.
        seed: of the training.
        name: of the model; two models with one seed do not try the same points.
    """
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    number = len(known) + 1
    digest = hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest()
    space = {key: _distribution(values) for key, values in tuning.space}
    sampler = optuna.samplers.TPESampler(
        seed=int.from_bytes(digest[:4], "big"),
        multivariate=True,
        constant_liar=True,
        n_startup_trials=max(3, min(10, tuning.trials // 2)),
    )
    way = StudyDirection.MINIMIZE if tuning.direction == "min" else StudyDirection.MAXIMIZE
    study = optuna.create_study(sampler=sampler, direction=way)
    states = {"COMPLETE": TrialState.COMPLETE, "STOPPED": TrialState.PRUNED, "FAILED": TrialState.FAIL}
    for trial in known:
        if trial.state == "STOPPED" and not trial.rungs:
            continue
        study.add_trial(
            create_trial(
                state=states.get(trial.state, TrialState.RUNNING),
                params={key: _stored(space[key], trial.params[key]) for key in space},
                distributions=space,
                value=trial.metric if trial.state == "COMPLETE" else None,
                intermediate_values=dict(trial.rungs) if trial.state == "STOPPED" else None,
            )
        )
    asked = study.ask(space).params
    return {key: json.loads(value) if isinstance(value, str) else value for key, value in asked.items()}


def lags(tuning: Tuning, known: Sequence[Trial], number: int, rung_of: Mapping[int, Mapping[int, int]]) -> bool:
    """Whether a trial that has just come to a rung is stopped there.

    Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934) with a reduction by two: it goes on if it is in
    the better half, rounded up, of the trials that have come to this rung so far.

    Args:
        tuning: whose direction says what is better.
        known: all trials, this one with the rung's value.
        number: of the trial.
        rung_of: number -> step -> place of the rung: trials with other numbers of steps have their rungs elsewhere.
    """
    if not tuning.halving:
        return False
    mine = next(trial for trial in known if trial.number == number)
    place = max(rung_of[number][step] for step in mine.rungs)
    values = {
        trial.number: value
        for trial in known
        for step, value in trial.rungs.items()
        if rung_of[trial.number].get(step) == place
    }
    better = sum(_better(tuning, value, values[number]) for value in values.values())
    return better >= math.ceil(len(values) / 2)


def best_of(tuning: Tuning, known: Sequence[Trial]) -> Trial | None:
    """The complete trial with the best metric, the earliest of equal ones; None if none is complete."""
    found = None
    for trial in known:
        if trial.state != "COMPLETE" or trial.metric is None or trial.same_as:
            continue
        if found is None or found.metric is None or _better(tuning, trial.metric, found.metric):
            found = trial
    return found


def twin(known: Sequence[Trial], params: Mapping[str, Any]) -> Trial | None:
    """An earlier trial with the very settings, whatever became of it; None if there is none that has ended."""
    same = (trial for trial in known if trial.params == params and not trial.same_as)
    return next((trial for trial in same if trial.state != "RUNNING"), None)


def _better(tuning: Tuning, value: float, other: float) -> bool:
    return value < other if tuning.direction == "min" else value > other


def _distribution(values: tuple[str, tuple[Any, ...]]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kind, given = values
    if kind == "choices":
        # As text: Optuna compares choices with ==, where true is 1.
        return CategoricalDistribution([json.dumps(value) for value in given])
    low, high, log = given
    if kind == "whole":
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _stored(distribution: Any, value: Any) -> Any:
    from optuna.distributions import CategoricalDistribution

    return json.dumps(value) if isinstance(distribution, CategoricalDistribution) else value
