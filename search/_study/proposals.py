"""What is scored next: a sampler with what it was told, rebuilt from rows, the same whether or not a search was killed.

Every question has a number: how many points were entered before it (corners included). A question is answered from the
number, the seed and what was told alone, so the number, kept in the row, is all that a resume needs. Points that
are known already never enter: the sampler is asked again under the same number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from search.samplers import History, Problem, make_sampler
from search.samplers._types import PARTS, STDERR, Array, generator

if TYPE_CHECKING:
    import optuna

    from search.samplers._optuna import PureSampler

Values = dict[str, Any]
"""Dimension -> parameter."""

ATTEMPTS = 4
"""Times that a sampler is asked again when it proposes a point that is known; then points are drawn at random."""
DRAWS = 200
ENUMERATED = 100_000
_PRIME = 1_000_003


@dataclass(frozen=True)
class Observation:
    """What scoring a point gave.

    Attributes:
        values: objectives as measured, in order.
        stderr: their standard errors, 0 where exact.
        constraints: name -> how far the point is on the wrong side, <= 0 keeps it; the same names for all points.
        parts: (score, standard error) of each part of the objectives, as `Problem.orders` has them; empty: unknown.
    """

    values: tuple[float, ...]
    stderr: tuple[float, ...]
    constraints: Mapping[str, float]
    parts: tuple[tuple[float, float], ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether it keeps all constraints."""
        return all(distance <= 0 for distance in self.constraints.values())


@dataclass(frozen=True)
class Asked:
    """A point under way: its number and its parameters."""

    number: int
    values: Values


class Proposals(Protocol):
    """A sampler with its history. Observations of None are points whose scoring failed."""

    def enter(self, values: Values, observation: Observation | None, number: int | None = None) -> int:
        """A point that was scored or failed before; its number (the next one by default)."""
        ...

    def resume(self, values: Values, number: int | None = None) -> Asked:
        """A point that was under way when an earlier driver ended: it is under way again."""
        ...

    def propose(self, known: Callable[[Values], bool]) -> Asked | None:
        """The next point for which `known` is false; None when no other can be found."""
        ...

    def tell(self, asked: Asked, observation: Observation | None) -> None:
        """What became of a point under way."""
        ...

    def revise(self, asked: Asked, observation: Observation | None) -> None:
        """What became of a point that was told before and has been scored on more items."""
        ...


def proposals(
    sampler: str, problem: Problem, space: Mapping[str, optuna.distributions.BaseDistribution], seed: int
) -> Proposals:
    """A sampler with an empty history.

    Args:
        sampler: one of `search.samplers.NAMES`, or "package.module:function".
        problem: what is searched.
        space: name -> distribution, in the problem's order; empty: one point.
        seed: of all that is drawn.

    Raises:
        ValueError: an unknown sampler.
    """
    from search.samplers._optuna import PureSampler

    def make() -> optuna.samplers.BaseSampler:
        return make_sampler(sampler, dimensions=len(space), seed=seed, problem=problem, space=space)

    made = make()
    if isinstance(made, PureSampler) or not space:
        return _Pure(made if isinstance(made, PureSampler) else None, problem, space, seed)
    return _Optuna(make, problem, space, seed)


class _Pure:
    """A pure sampler over arrays that grow, without an Optuna study: a question costs the same after 10,000 points."""

    def __init__(
        self,
        sampler: PureSampler | None,
        problem: Problem,
        space: Mapping[str, optuna.distributions.BaseDistribution],
        seed: int,
    ) -> None:
        self.sampler, self.problem, self.space, self.seed = sampler, problem, dict(space), seed
        self.count = 0
        self.constraints: tuple[str, ...] = ()
        self.waiting: dict[int, Array] = {}
        m = len(problem.directions)
        self._x, self._bounds = np.empty((0, len(space))), np.empty((0, 0))
        self._values, self._stderr = np.empty((0, m)), np.empty((0, m))
        self._parts = np.empty((0, 2 * sum(map(len, problem.orders))))  # score and standard error by turns

    def enter(self, values: Values, observation: Observation | None, number: int | None = None) -> int:
        number = self._place(values, number)
        self._set(number, observation)
        return number

    def resume(self, values: Values, number: int | None = None) -> Asked:
        number = self._place(values, number)
        self.waiting[number] = self._x[number]
        return Asked(number, values)

    def propose(self, known: Callable[[Values], bool]) -> Asked | None:
        number = self.count
        for attempt in range(ATTEMPTS if self.space and self.sampler is not None else 0):
            history, pending = self._history()
            assert self.sampler is not None
            seed = self.seed + attempt * _PRIME
            values = self._values_of(self.sampler.propose(self.problem, history, pending, seed, number))
            if not known(values):
                return self.resume(values)
        other = unknown(self.space, known, self.seed, number)
        return None if other is None else self.resume(other)

    def tell(self, asked: Asked, observation: Observation | None) -> None:
        del self.waiting[asked.number]
        self._set(asked.number, observation)

    def revise(self, asked: Asked, observation: Observation | None) -> None:
        if observation is None:
            self._values[asked.number] = np.nan
        self._set(asked.number, observation)

    def _values_of(self, point: Array) -> Values:
        from search.samplers._optuna import from_unit

        return {n: from_unit(float(u), d) for u, (n, d) in zip(point, self.space.items(), strict=True)}

    def _place(self, values: Values, number: int | None) -> int:
        """Room for a point; what was lost between the last number and this one stays empty."""
        from search.samplers._optuna import to_unit

        number = self.count if number is None else number
        self.count = max(self.count, number + 1)
        if self.count > len(self._x):
            size = max(64, 2 * self.count)
            self._x, self._bounds = _grown(self._x, size), _grown(self._bounds, size)
            self._values, self._stderr = _grown(self._values, size), _grown(self._stderr, size)
            self._parts = _grown(self._parts, size)
        # From the parameter and not from what the sampler drew: that is what a resume will see, to the last bit.
        self._x[number] = [to_unit(values[name], distribution) for name, distribution in self.space.items()]
        return number

    def _set(self, number: int, observation: Observation | None) -> None:
        if observation is None:
            return
        if not self.constraints and observation.constraints:
            self.constraints = tuple(observation.constraints)
            self._bounds = np.full((len(self._x), len(self.constraints)), np.nan)
        self._values[number], self._stderr[number] = observation.values, observation.stderr
        self._bounds[number] = [observation.constraints[name] for name in self.constraints]
        if observation.parts:
            self._parts[number] = np.ravel(observation.parts)

    def _history(self) -> tuple[History, Array]:
        numbers = np.arange(self.count)
        rows: Any = slice(0, self.count)
        if self.waiting or np.isnan(self._x[: self.count]).any():
            ended: Any = ~np.isnan(self._x[: self.count]).any(axis=1)
            ended[list(self.waiting)] = False
            rows = np.flatnonzero(ended)
        parts = self._parts[rows]
        history = History(
            self._x[rows],
            self._values[rows],
            self._stderr[rows],
            self._bounds[rows],
            numbers[rows],
            parts[:, ::2],
            parts[:, 1::2],
        )
        pending = np.array([self.waiting[number] for number in sorted(self.waiting)])
        return history, pending.reshape(len(self.waiting), len(self.space))


class _Optuna:
    """One of Optuna's samplers, on a study in memory whose trial numbers are the questions' numbers."""

    def __init__(
        self,
        make: Callable[[], optuna.samplers.BaseSampler],
        problem: Problem,
        space: Mapping[str, optuna.distributions.BaseDistribution],
        seed: int,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.seed = dict(space), seed
        self._directions, self._make = problem.directions, make
        self.study, self.count = self._made(), 0

    def enter(self, values: Values, observation: Observation | None, number: int | None = None) -> int:
        from optuna.trial import TrialState

        state = TrialState.FAIL if observation is None else TrialState.COMPLETE
        return self._add(values, state, observation, number)

    def resume(self, values: Values, number: int | None = None) -> Asked:
        from optuna.trial import TrialState

        return Asked(self._add(values, TrialState.RUNNING, None, number), values)

    def propose(self, known: Callable[[Values], bool]) -> Asked | None:
        from optuna.trial import TrialState

        for _ in range(ATTEMPTS):
            trial = self.study.ask(self.space)
            self.count = trial.number + 1
            if not known(dict(trial.params)):
                return Asked(trial.number, dict(trial.params))
            self.study.tell(trial, state=TrialState.FAIL)  # a resume leaves the same gap in the numbers
        other = unknown(self.space, known, self.seed, self.count)
        return None if other is None else self.resume(other)

    def tell(self, asked: Asked, observation: Observation | None) -> None:
        import optuna

        if observation is None:
            self.study.tell(asked.number, state=optuna.trial.TrialState.FAIL)
            return
        frozen = self.study.get_trials(deepcopy=False)[asked.number]
        trial = optuna.Trial(self.study, frozen._trial_id)
        for name, value in observation.constraints.items():
            trial.set_constraint(name, value)
        trial.set_user_attr(STDERR, list(observation.stderr))
        if observation.parts:
            trial.set_user_attr(PARTS, [list(part) for part in observation.parts])
        self.study.tell(asked.number, list(observation.values))

    def revise(self, asked: Asked, observation: Observation | None) -> None:
        # Optuna's trials end once: the study is made anew, as a resume would make it, with this one's other end.
        trials, self.study, self.count = self.study.get_trials(deepcopy=False), self._made(), 0
        for trial in trials:
            if trial.number == asked.number:
                self.enter(asked.values, observation)
            else:
                self.study.add_trial(trial)
                self.count += 1

    def _made(self) -> optuna.Study:
        import optuna

        ways = optuna.study.StudyDirection
        directions = [ways.MAXIMIZE if direction == "max" else ways.MINIMIZE for direction in self._directions]
        return optuna.create_study(directions=directions, sampler=self._make())

    def _add(self, values: Values, state: Any, observation: Observation | None, number: int | None) -> int:
        import optuna

        while number is not None and self.count < number:
            self.study.add_trial(optuna.create_trial(params={}, distributions={}, state=optuna.trial.TrialState.FAIL))
            self.count += 1
        scored: dict[str, Any] = {}
        if observation is not None:
            scored = {"values": list(observation.values), "constraints": dict(observation.constraints)}
            scored["user_attrs"] = {STDERR: list(observation.stderr)}
        trial = optuna.create_trial(params=values, distributions=self.space, state=state, **scored)
        self.study.add_trial(trial)
        self.count += 1
        return self.count - 1


def unknown(
    space: Mapping[str, optuna.distributions.BaseDistribution],
    known: Callable[[Values], bool],
    seed: int,
    number: int,
) -> Values | None:
    """A random point that is not known; where there are few points, one of those left, if any is."""
    from optuna.distributions import CategoricalDistribution

    from search.samplers._optuna import from_unit

    rng = generator(seed + _PRIME * ATTEMPTS, number)
    for _ in range(DRAWS if space else 0):
        values = {name: from_unit(float(rng.random()), distribution) for name, distribution in space.items()}
        if not known(values):
            return values
    choices: list[Sequence[Any]] = [d.choices for d in space.values() if isinstance(d, CategoricalDistribution)]
    if len(choices) < len(space) or np.prod([float(len(c)) for c in choices]) > ENUMERATED:
        return None
    points = (dict(zip(space, point, strict=True)) for point in itertools.product(*choices))
    return next((values for values in points if not known(values)), None)


def _grown(array: Array, size: int) -> Array:
    grown = np.full((size, array.shape[1]), np.nan)
    grown[: len(array)] = array
    return grown
