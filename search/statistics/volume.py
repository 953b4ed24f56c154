"""How sure the hypervolume of a measured front is.

A front by measured values holds the lucky points, so its hypervolume H is above the true one of the same points; and an
objective that is the worst of several languages is measured too low, the more so the closer the languages are. Both
errors depend on how the true values lie, which measured ones, being farther apart, do not show. So the whole story is
played many times (a parametric bootstrap; Efron & Tibshirani 1993, ch. 6 and 10): true values are drawn as far as the
points' own spread lets them be known (`uncertainty.shrunk`, for each language where an objective is made of
languages), errors of measurement are added, the measured front is taken, and its measured hypervolume is compared with
the true one of the same points. The mean of that difference is the optimism b, its spread the error s:

    H - b  +-  t s,      t of Student with one degree of freedom less than there are groups of items
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators._stats import student

from . import front
from .uncertainty import LEVEL, Array, Layout, Quantity, Values, joined, means, shrunk


@dataclass(frozen=True)
class Parts:
    """The means that objectives are made of (`search.statistics.uncertainty.means`), side by side.

    Attributes:
        objectives: m quantities.
        sizes: of how many means each is made.
        values: (p, k) as measured, k the sum of `sizes`.
        drawn: (p, r, k) draws of what would be measured on other items.
    """

    objectives: tuple[Quantity, ...]
    sizes: tuple[int, ...]
    values: Array
    drawn: Array

    def joined(self, found: Array) -> Array:
        """The objectives of their means: (..., k) -> (..., m)."""
        ends = np.cumsum(self.sizes)
        columns = [
            joined(quantity, found[..., end - size : end])
            for quantity, size, end in zip(self.objectives, self.sizes, ends, strict=True)
        ]
        return np.stack(columns, axis=-1)

    def only(self, rows: Any) -> Parts:
        """The same of some points."""
        return Parts(self.objectives, self.sizes, self.values[rows], self.drawn[rows])


def parts_of(layouts: Mapping[str, Layout], values: Values, objectives: Sequence[Quantity], *, seed: int) -> Parts:
    """The parts of objectives.

    Args:
        layouts: of every evaluator that an objective names.
        values: evaluator -> (p, n) results, finite; the same items for all points.
        objectives: m of them.
        seed: of the draws.
    """
    found = [means(layouts, values, quantity, seed=seed) for quantity in objectives]
    sizes = tuple(exact.shape[1] for exact, _ in found)
    exact, drawn = (np.concatenate(each, axis=-1) for each in zip(*found, strict=True))
    return Parts(tuple(objectives), sizes, exact, drawn)


def hypervolume_interval(
    parts: Parts,
    directions: Sequence[str],
    reference: Sequence[float] | NDArray[Any],
    *,
    groups: int,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """(low, high, optimism) of the true hypervolume of the points that are on the measured front.

    Args:
        parts: of feasible points, those that could be on the front.
        directions: of the objectives.
        reference: (m,).
        groups: number of groups of items of the evaluator that has fewest.
        level: share of intervals that hold the truth.

    Returns:
        low and high, at least 0, and by how much the measured hypervolume is too large on average.
    """
    if not len(parts.values):
        return 0.0, 0.0, 0.0
    exact = front.hypervolume(parts.joined(parts.values), directions, reference)
    true = shrunk(parts.values, parts.drawn)
    # The errors of one draw upon the truth of another.
    noise = np.roll(parts.drawn - parts.values[:, None], 1, axis=1)
    seen, meant = parts.joined(true + noise), parts.joined(true)
    errors = np.empty(seen.shape[1])
    for index in range(len(errors)):
        kept = front.non_dominated(seen[:, index], directions)
        errors[index] = front.hypervolume(seen[kept, index], directions, reference)
        errors[index] -= front.hypervolume(meant[kept, index], directions, reference)
    optimism = float(errors.mean())
    half = student(0.5 + level / 2, max(1, groups - 1)) * float(errors.std(ddof=1))
    return max(0.0, exact - optimism - half), max(0.0, exact - optimism + half), optimism
