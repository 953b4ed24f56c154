"""Intervals for the worst language, and for the mean of the worst few.

The lowest of noisy scores is below the lowest true one, the more so the closer the languages are, so an interval around
the measured lowest, however wide its error, has the truth above it too often. Here the limits are the aggregates of the
languages' own limits, a standard errors below and b above each score:

    low = min_l L_l(a),    high = min_l U_l(b)

`low` is above the truth only if the limit of the language that is truly the lowest is: one event, however many other
languages there are. `high` is below the truth if any limit of theirs is: as many events as there are languages that
may be the lowest. The two do not happen in the same world. Where languages are equal, nearly all of the error is that
of `high`; where one is alone at the bottom, it is that of both limits of this one language. So a and b are the pair of
least a + b that keeps the error within 1 - level in the two extreme worlds that the scores permit:

* *near*: languages lie as close to the bottom as `CLOSER` standard errors of their distances permit, so that of those
  that may be the lowest all are. Choosing them by the scores is the selection of inequalities of Chernozhukov, Lee and
  Rosen (2013, doi:10.3982/ECTA8718), and of Andrews and Soares (2010, doi:10.3982/ECTA7502).
* *alone*: the measured worst languages are the worst whatever is measured.

For six equal languages with independent errors and 95 %, a = 1.73 and b = 2.39, by hand: 6 P(Z > b) = P(Z > a) +
P(Z > b) = 5 %. That is 1.05 times the width of one language's interval, and no narrower one is right in both worlds
whose limits are at fixed distances; in between it is too wide, 96 to 99 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evaluators._stats import interval_of, limits
from evaluators._types import Score

from . import aggregates
from .aggregates import Aggregate

Array = NDArray[np.float64]

CLOSER = 2.0  # with less, equal languages pass for unequal when scores are apart by chance: 94.7 % at 2, 93 at 1.5
ONE = 0.6826894921370859  # level whose half interval is one standard error
STEPS = 48


@lru_cache(maxsize=8192)
def interval(
    aggregate: Aggregate,
    scores: tuple[Score, ...],
    groups: tuple[int, ...],
    overall: Score,
    larger_is_better: bool,
    level: float,
) -> tuple[float, float]:
    """Two-sided confidence interval of an aggregate over languages.

    Args:
        aggregate: over languages.
        scores: of each of them, of values in [0, 1].
        groups: number of groups of items of each.
        overall: score over the items of all; what it says more than the languages' errors is their correlation.
        larger_is_better: which languages are the worst, for `cvar`.
        level: coverage wanted, in (0, 1).

    Returns:
        (low, high) within [0, 1].
    """
    below, above = _distances(aggregate, scores, groups, overall, larger_is_better, 1.0 - level)
    chances = NormalDist().cdf(-below), NormalDist().cdf(-above)
    sides = np.array([limits(score, count, *chances) for score, count in zip(scores, groups, strict=True)]).T
    low, high = aggregates.reduced(aggregate, sides, larger_is_better).tolist()
    return low, high


def _distances(
    aggregate: Aggregate,
    scores: Sequence[Score],
    groups: Sequence[int],
    overall: Score,
    larger_is_better: bool,
    error: float,
) -> tuple[float, float]:
    """How many standard errors below and above its score each language's limits are."""
    count = len(scores)
    # Unlike standard errors, these are not 0 where all items of a language agree.
    ones = [interval_of(score, number, level=ONE) for score, number in zip(scores, groups, strict=True)]
    errors = np.array([(high - low) / 2 for low, high in ones])
    values = np.array([score.value for score in scores])
    weights = np.array(aggregates.order(aggregate, count, larger_is_better))
    upside_down = weights[-1] > weights[0]
    if upside_down:  # the worst are the highest: the same, seen from above
        values, weights = -values, weights[::-1]
    common = aggregates.correlation(scores, overall)
    noise = errors * aggregates.noise(count, common)
    rank = np.argsort(values, kind="stable")
    worst = int(np.count_nonzero(weights > 1e-12))
    edge = rank[max(0, worst - 1)]  # the least bad of the worst: others change places with it
    gaps = values - values[edge]
    apart = np.sqrt(np.maximum(0.0, errors**2 + errors[edge] ** 2 - 2 * common * errors * errors[edge]))
    near = np.sign(gaps) * np.maximum(0.0, np.abs(gaps) - CLOSER * apart)
    alone = noise[:, rank] @ weights / (errors[rank] @ weights)
    below, above = _shortest(_standardised(near, noise, errors, weights), np.sort(alone), error)
    return (above, below) if upside_down else (below, above)


def _standardised(true: Array, noise: Array, errors: Array, weights: Array) -> Array:
    """Measured less true aggregate in standard errors of the languages that make it, sorted: (draws,)."""
    seen = true + noise
    order = np.argsort(seen, axis=1)
    measured = np.take_along_axis(seen, order, axis=1) @ weights
    return np.asarray(np.sort((measured - np.sort(true) @ weights) / (errors[order] @ weights)))


def _shortest(near: Array, alone: Array, error: float) -> tuple[float, float]:
    """(a, b) of least sum with P(-b <= T <= a) >= 1 - error under both distributions, given as sorted draws of T."""
    draws = len(near)
    best = (math.inf, math.inf)
    for share in np.linspace(0.0, error, STEPS, endpoint=False):
        above = -near[int(share * draws)]
        below = -math.inf
        for sorted_ in (near, alone):
            left = float(np.searchsorted(sorted_, -above)) / draws
            place = math.ceil((1.0 - error + left) * draws)
            below = max(below, float(sorted_[place]) if place < draws else math.inf)
        best = min(best, (below, float(above)), key=sum)
    return best
