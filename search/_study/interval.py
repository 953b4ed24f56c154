"""How sure a hypervolume is, from the standard errors of the scores alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from search.statistics import front

INNER = 40


def hypervolume_interval(
    values: front.Array,
    stderr: front.Array,
    directions: Sequence[str],
    reference: Sequence[float],
    *,
    level: float = 0.9,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """An interval for the hypervolume of the true values, by a double parametric bootstrap.

    A front of measured values holds the lucky points, so its hypervolume H is too large on average. Noise added once
    more shows by how much: b = mean(H*) - H (Efron & Tibshirani 1993, ch. 10.2), and H - b is the centre. Its spread
    is that of the same corrected figure over the resamples, each corrected by resamples of its own, since b is an
    estimate too; plain percentiles of H* would hold the truth far less often than they say (`tests/search/
    test_study_interval.py` measures it).

    Args:
        values: (n, m) as measured, feasible points only.
        stderr: (n, m) their standard errors, of independent normal errors; all 0: the interval is the value.
        directions: of the objectives.
        reference: (m,).
        level: share of intervals that hold the truth.
        resamples: outer draws.
        seed: of the draws.

    Returns:
        (low, high), at least 0.

    Raises:
        ValueError: a level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    measured = front.hypervolume(values, directions, reference)
    if not np.any(stderr > 0):
        return measured, measured
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    corrected = np.empty(resamples)
    extra = np.empty(resamples)
    for index in range(resamples):
        noisy = values + stderr * rng.standard_normal(values.shape)
        drawn[index] = front.hypervolume(noisy, directions, reference)
        again = noisy + stderr * rng.standard_normal((INNER, *values.shape))
        inner = np.array([front.hypervolume(one, directions, reference) for one in again])
        corrected[index] = 2.0 * drawn[index] - inner.mean()
        extra[index] = inner.var(ddof=1) / INNER  # what few inner draws add to the spread
    centre = 2.0 * measured - drawn.mean()
    spread = float(np.sqrt(max(corrected.var(ddof=1) - extra.mean(), drawn.var(ddof=1))))
    half = NormalDist().inv_cdf(0.5 + level / 2.0) * spread
    return max(0.0, float(centre - half)), max(0.0, float(centre + half))
