"""The scalar rules of the task-vector methods, which the references and the plans share. Imports no torch.

All are mergekit's (0.1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from ._errors import InputError

_SMALLEST_SUM = 1e-8  # weights that sum to less are not divided by
_SMALLEST_NORM = 1e-7  # an L1 norm below it rescales nothing


def trim_count(density: float, size: int) -> int:
    """How many of `size` entries a trim keeps: `max(1, int(density * size))` for a density in (0, 1)."""
    if density >= 1:
        return size
    return min(size, max(1, int(density * size))) if density > 0 else 0


def band_counts(density: float, gamma: float, size: int) -> tuple[int, int]:
    """(a, b): of `size` entries, largest first, the first a are dropped as outliers and those up to b are kept.

    `int(density * size)` entries are kept and `int(gamma * size)` dropped above them; fewer are dropped where
    density + gamma exceeds 1. A density of 1 keeps everything, outliers too.
    """
    if density >= 1:
        return 0, size
    kept = int(density * size)
    above = min(int(gamma * size), size - kept)
    return above, above + kept


def keep_probabilities(density: float, epsilon: float) -> tuple[float, float]:
    """The keep probabilities of a row's smallest and largest entry, `density -+ epsilon`, for a density in (0, 1).

    Raises:
        InputError: one of them is not between 0 and 1.
    """
    low, high = density - epsilon, density + epsilon
    if low <= 0 or high >= 1:
        raise InputError(
            f"density - epsilon and density + epsilon must lie between 0 and 1, got {density:g} and {epsilon:g}; "
            f"choose an epsilon below {min(density, 1 - density):g}, or a density of exactly 0 or 1"
        )
    return low, high


def rescaling(before: float, after: float) -> float:
    """The factor that brings an L1 norm from `after` back to `before`; 1 where either is about 0."""
    return 1.0 if before < _SMALLEST_NORM or after < _SMALLEST_NORM else before / after


def coefficients(weight: Sequence[float], *, normalize: bool, lambda_: float) -> tuple[float, ...]:
    """Each expert's coefficient in a direct sum: `lambda * w_i`, divided by `sum w_i` if `normalize`.

    A sum of about 0 does not divide.
    """
    total = fsum(weight)
    factor = lambda_ / total if normalize and abs(total) >= _SMALLEST_SUM else lambda_
    return tuple(share * factor for share in weight)
