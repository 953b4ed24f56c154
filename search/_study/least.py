"""What a person should know before trusting a front: nothing is feasible, or an objective says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def least_infeasible(violations: Sequence[Mapping[str, float]]) -> int:
    """Index of the point that breaks its constraints least.

    Least is the smallest sum of violations, each as a share of the largest of that constraint, so that units do not
    matter; the first one wins a tie.

    Args:
        violations: for each of n >= 1 points, constraint -> how far it is on the wrong side; what is kept may be left
            out or be <= 0.
    """
    names = dict.fromkeys(name for point in violations for name in point)
    broken = np.array([[max(0.0, point.get(name, 0.0)) for name in names] for point in violations])
    broken = broken.reshape(len(violations), len(names))
    largest = broken.max(axis=0, initial=0.0)
    return int((broken / np.where(largest > 0, largest, 1.0)).sum(axis=1).argmin())


def constant(values: Sequence[Mapping[str, float]], objectives: Iterable[str]) -> tuple[str, ...]:
    """The objectives that have one and the same value at all points, of which there are three at least."""
    if len(values) < 3:
        return ()
    return tuple(name for name in objectives if len({point[name] for point in values}) == 1)


def missed(violations: Mapping[str, float]) -> str:
    """What a point misses, on one line."""
    return ", ".join(f"{name} by {gap:.4g}" for name, gap in violations.items() if gap > 0)
