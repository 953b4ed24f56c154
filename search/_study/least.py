"""Where nothing keeps the constraints: what comes closest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def missed(violations: Mapping[str, float]) -> str:
    """What a point misses, on one line."""
    return ", ".join(f"{name} by {gap:.4g}" for name, gap in violations.items() if gap > 0)
