"""The bridge to Optuna: a pure sampler as a `BaseSampler`, and Optuna's own ones made to depend on the study alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ._types import PARTS, STDERR, Array, History, Problem, Propose, generator

GA = optuna.samplers.NSGAIISampler | optuna.samplers.NSGAIIISampler


class PureSampler(BaseSampler):
    """Asks a pure function with what the study holds; keeps nothing between two questions.

    Args:
        propose: the sampler.
        problem: what is searched; None: read from the study (directions, no starts, no simplex).
        space: name -> distribution in the problem's order; None: what all finished trials have in common, by name.
        seed: of the sampler.
    """

    def __init__(
        self,
        propose: Propose,
        problem: Problem | None = None,
        space: Mapping[str, BaseDistribution] | None = None,
        seed: int = 0,
    ) -> None:
        self.propose, self.problem, self.seed = propose, problem, seed
        self.space = None if space is None else dict(space)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All dimensions that hold more than one value."""
        if self.space is None:
            return intersection_search_space(study.get_trials(deepcopy=False))
        return dict(self.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters that `propose` answers."""
        if not search_space:
            return {}
        problem = self.problem
        width = sum(map(len, problem.orders)) if problem is not None else 0
        history, pending, number = history_of(study, trial.number, search_space, width)
        if problem is None:
            problem = Problem(len(search_space), _directions(study), levels=levels_of(search_space))
        point = self.propose(problem, history, pending, self.seed, number)
        return {
            name: from_unit(float(u), distribution)
            for u, (name, distribution) in zip(point, search_space.items(), strict=True)
        }

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform value, for a dimension that the study has not seen yet."""
        rng = np.random.default_rng((self.seed, trial.number, *param_name.encode()))
        return from_unit(float(rng.random()), param_distribution)


class Reseeded(BaseSampler):
    """One of Optuna's samplers, built anew for each trial with a seed made of (seed, trial number).

    Optuna's samplers keep a random state in memory; after a restart it would begin again, and the search would not go
    on as if it had not stopped.
    """

    def __init__(self, build: Callable[[int], BaseSampler], seed: int) -> None:
        self.build, self.seed = build, seed
        self._current: tuple[int, BaseSampler] | None = None

    def _at(self, number: int) -> BaseSampler:
        if self._current is None or self._current[0] != number:
            self._current = number, self.build(int(generator(self.seed, number).integers(2**31)))
        return self._current[1]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the sampler says."""
        return self._at(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler says."""
        return self._at(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler says."""
        return self._at(trial.number).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As the sampler says."""
        self._at(trial.number).before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As the sampler says."""
        self._at(trial.number).after_trial(study, trial, state, values)


class Generations(BaseSampler):
    """An evolutionary sampler whose generations follow from the order of the trials alone.

    Optuna keeps a trial's generation in an attribute that it sets when it asks; a study rebuilt from a database lacks
    it, and the evolution would begin again. Here the sampler works on a copy of the study in which the scored trials,
    corners included, form generations in the order in which they were asked. The copy only grows by what is new.
    """

    def __init__(self, build: Callable[[int], GA], seed: int) -> None:
        self.build, self.seed = build, seed
        self._copy: optuna.Study | None = None
        self._copied: set[int] = set()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What all finished trials have in common."""
        return intersection_search_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A child of the present generation."""
        sampler = self.build(int(generator(self.seed, trial.number).integers(2**31)))
        if self._copy is None:
            self._copy = optuna.create_study(directions=study.directions, sampler=sampler)
        self._copy.sampler = sampler
        key = f"{type(sampler).__name__}:generation"
        size = sampler.population_size
        assert size is not None
        for old in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if old.number not in self._copied:
                attrs = {**old.system_attrs, key: len(self._copied) // size}
                self._copy.add_trial(
                    optuna.trial.create_trial(
                        params=old.params, distributions=old.distributions, values=old.values, system_attrs=attrs
                    )
                )
                self._copied.add(old.number)
        # The first call returns parents by rank, later ones (from Optuna's cache) by age: only the latter is the same
        # whether or not this is the first question after a restart.
        sampler.get_parent_population(self._copy, len(self._copied) // size)
        asked = self._copy.ask()
        answer = sampler.sample_relative(self._copy, self._copy.get_trials(deepcopy=False)[asked.number], search_space)
        self._copy.tell(asked, state=TrialState.FAIL)
        return answer

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform value: the first generation."""
        rng = np.random.default_rng((self.seed, trial.number, *param_name.encode()))
        return from_unit(float(rng.random()), param_distribution)


def history_of(
    study: optuna.Study, number: int, space: Mapping[str, BaseDistribution], parts: int = 0
) -> tuple[History, Array, int]:
    """What a study holds, as (history, pending (p, d), number of points asked), without the trial `number` itself.

    `parts` is how many parts the objectives have.
    """
    rows: list[tuple[Array, list[float], list[float], list[float], int]] = []
    by_part: list[list[list[float]]] = []
    unknown = [[math.nan, math.nan]] * parts
    pending: list[Array] = []
    objectives = len(study.directions)
    asked = 0
    for trial in study.get_trials(deepcopy=False):
        if trial.number == number or any(name not in _params(trial) for name in space):
            continue
        params = _params(trial)
        point = np.array([to_unit(params[name], distribution) for name, distribution in space.items()])
        if trial.state is TrialState.COMPLETE:
            stderr = list(trial.user_attrs.get(STDERR, [0.0] * objectives))
            rows.append((point, list(trial.values), stderr, [trial.constraints[k] for k in trial.constraints], asked))
            by_part.append(trial.user_attrs.get(PARTS, unknown))
        elif trial.state is TrialState.FAIL:
            rows.append((point, [math.nan] * objectives, [math.nan] * objectives, [], asked))
            by_part.append(unknown)
        elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
            pending.append(point)
        asked += 1
    width = max((len(row[3]) for row in rows), default=0)
    history = History(
        np.array([row[0] for row in rows]).reshape(len(rows), len(space)),
        np.array([row[1] for row in rows]).reshape(len(rows), objectives),
        np.array([row[2] for row in rows]).reshape(len(rows), objectives),
        np.array([row[3] if len(row[3]) == width else [math.nan] * width for row in rows]).reshape(len(rows), width),
        np.array([row[4] for row in rows], dtype=np.int64),
        *np.array(by_part).reshape(len(rows), parts, 2).transpose(2, 0, 1),
    )
    return history, np.array(pending).reshape(len(pending), len(space)), asked


def _params(trial: FrozenTrial) -> Mapping[str, Any]:
    """Parameters; of an enqueued trial those that it will have."""
    return trial.params or trial.system_attrs.get("fixed_params", {})


def _directions(study: optuna.Study) -> tuple[str, ...]:
    return tuple("max" if direction is StudyDirection.MAXIMIZE else "min" for direction in study.directions)


def levels_of(space: Mapping[str, BaseDistribution]) -> tuple[int, ...]:
    """Number of choices of each categorical dimension, 0 for the others."""
    return tuple(len(d.choices) if isinstance(d, CategoricalDistribution) else 0 for d in space.values())


def to_unit(value: Any, distribution: BaseDistribution) -> float:
    """A parameter's place in [0, 1]."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.to_internal_repr(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, value = *_ends(distribution), float(value)
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def from_unit(unit: float, distribution: BaseDistribution) -> Any:
    """The inverse of `to_unit`, rounded to what the distribution holds."""
    if isinstance(distribution, CategoricalDistribution):
        count = len(distribution.choices)
        return distribution.choices[min(count - 1, int(unit * count))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    if distribution.log:
        value = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    else:
        value = low + unit * (high - low)
    if isinstance(distribution, IntDistribution):
        steps = round((value - distribution.low) / distribution.step)
        return int(min(distribution.high, max(distribution.low, distribution.low + steps * distribution.step)))
    if distribution.step is not None:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    return min(distribution.high, max(distribution.low, value))


def _ends(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Bounds of the continuous relaxation: half a step more on either side of an integer, so that all weigh alike."""
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return distribution.low - 0.5 * distribution.step, distribution.high + 0.5 * distribution.step
    return float(distribution.low), float(distribution.high)
