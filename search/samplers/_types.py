"""What a sampler sees: the problem, what was scored, and what is under way; all of it in the unit cube."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STDERR = "stderr"
"""User attribute of a trial: standard errors of its values, in the objectives' order. Absent means exact values."""

PARTS = "parts"
"""User attribute of a trial: [score, standard error] of each part of its objectives, in `Problem.orders`' order."""


@dataclass(frozen=True)
class Problem:
    """What is searched, as data.

    Attributes:
        dimensions: d, numbers of a point, each in [0, 1].
        directions: "max" or "min" for each of the m objectives.
        starts: points to score before any other (corners of the space, the uniform merge), in this order; those that
            the history holds already are skipped.
        sticks: (first, stop) dimension of each group that is broken into weights on a simplex
            (`search.space.from_sticks`): the model then works on the weights, which is where the scores are smooth.
        levels: for each dimension 0 (continuous) or k, the number of choices; choice c stands at (c + 1/2) / k. Empty
            means all continuous.
        reference: (m,) of the hypervolume, in the objectives' units; None: taken from the history.
        orders: for each objective the weights of its parts from the lowest to the highest that make it (an ordered
            weighted average; (1, 0, .., 0) is the lowest of the languages' scores), or () for one without parts.
            Empty: no objective has any.
    """

    dimensions: int
    directions: tuple[str, ...]
    starts: tuple[tuple[float, ...], ...] = ()
    sticks: tuple[tuple[int, int], ...] = ()
    levels: tuple[int, ...] = ()
    reference: tuple[float, ...] | None = None
    orders: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class History:
    """What was scored so far, in the order in which it was asked.

    Attributes:
        x: (n, d) in [0, 1].
        values: (n, m) objectives as measured; NaN where scoring failed.
        stderr: (n, m) standard errors of `values`, 0 where the value is exact.
        constraints: (n, c); a point is feasible when all are <= 0.
        number: (n,) place of each point in the order of asking, over scored, failed and pending ones.
        parts: (n, p) scores of the parts of all objectives that have some, one objective after the other; NaN where
            they are not known.
        part_stderr: (n, p) their standard errors.
    """

    x: Array
    values: Array
    stderr: Array
    constraints: Array
    number: NDArray[np.int64]
    parts: Array = field(default_factory=lambda: np.zeros((0, 0)))
    part_stderr: Array = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which points have values: (n,)."""
        return np.asarray(np.isfinite(self.values).all(axis=1))

    def only(self, mask: NDArray[np.bool_]) -> History:
        """The history of the points in `mask` alone."""
        known = bool(self.parts.size)
        return History(
            self.x[mask],
            self.values[mask],
            self.stderr[mask],
            self.constraints[mask],
            np.asarray(self.number[mask]),
            self.parts[mask] if known else self.parts,
            self.part_stderr[mask] if known else self.part_stderr,
        )


Propose = Callable[[Problem, History, Array, int, int], Array]
"""A sampler as a pure function: (problem, history, pending (p, d), seed, number) -> point (d,) in [0, 1].

`number` counts the points asked before this one. The same arguments give the same point, so that a search rebuilt from
its database goes on as if it had not stopped.
"""


def part_columns(problem: Problem, objective: int) -> slice:
    """Columns of `History.parts` that hold the parts of an objective; an empty slice where it has none."""
    lengths = [len(order) for order in problem.orders[: objective + 1]]
    return slice(sum(lengths[:-1]), sum(lengths))


def losses(problem: Problem, values: Array) -> Array:
    """Objectives with every column to be minimised: (n, m)."""
    return np.asarray(values * np.array([-1.0 if d == "max" else 1.0 for d in problem.directions]))


def feasible(history: History) -> NDArray[np.bool_]:
    """Which points are scored and keep all constraints: (n,)."""
    return np.asarray(history.scored & (history.constraints <= 0).all(axis=1))


def snap(problem: Problem, x: Array) -> Array:
    """Points moved to the nearest ones that the space holds: inside the cube, choices at their places. (..., d)."""
    x = np.clip(x, 0.0, 1.0)
    for index, count in enumerate(problem.levels):
        if count:
            x[..., index] = (np.minimum(np.floor(x[..., index] * count), count - 1) + 0.5) / count
    return x


def next_start(problem: Problem, history: History, pending: Array) -> Array | None:
    """The first start that is neither scored nor under way, or None."""
    known = np.concatenate([history.x, pending])
    for start in problem.starts:
        if not len(known) or np.abs(known - np.array(start)).max(axis=1).min() > 1e-9:
            return np.array(start)
    return None


def generator(seed: int, number: int) -> np.random.Generator:
    """The random numbers of one question, whatever was asked before it."""
    return np.random.default_rng((seed, number))
