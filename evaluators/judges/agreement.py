"""Agreement of repeated votes, nominal: Krippendorff's alpha and Fleiss' kappa, from one table of counts. numpy only.

Own code, as both are a few lines on the same table, and a bootstrap of alpha is then two products of matrices; tests
hold them against the examples of their authors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""(items, labels): how many votes each item had for each label."""


@dataclass(frozen=True)
class Agreement:
    """How far votes on the same item agree beyond chance: 1 always, 0 as chance would.

    Attributes:
        alpha: Krippendorff's alpha; nan where all votes of all items are the same label, or none has two votes.
        low: lower end of its 95 % interval.
        high: upper end.
        kappa: Fleiss' kappa; nan as alpha, or where items have different numbers of votes.
        items: with at least two votes.
    """

    alpha: float
    low: float
    high: float
    kappa: float
    items: int


def table(votes: Sequence[Sequence[str]], labels: Sequence[str]) -> Counts:
    """(items, labels) counts of votes."""
    return np.array([[row.count(label) for label in labels] for row in map(list, votes)], dtype=np.float64).reshape(
        -1, len(labels)
    )


def alpha(counts: Counts) -> float:
    """Krippendorff's alpha of nominal data, 1 - observed / expected disagreement; nan where nothing varies.

    Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C. Items may have different numbers of
    votes; those with fewer than two say nothing.
    """
    disagreeing, kept = _parts(counts)
    return float(_alpha(disagreeing.sum(), kept.sum(axis=0)))


def kappa(counts: Counts) -> float:
    """Fleiss' kappa (Fleiss 1971, doi:10.1037/h0031619); nan where items have different numbers of votes."""
    votes = counts.sum(axis=-1)
    if not len(votes) or votes[0] < 2 or (votes != votes[0]).any():
        return float("nan")
    m = votes[0]
    within = float(((counts**2).sum(axis=-1) - m).mean() / (m * (m - 1)))
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return (within - chance) / (1 - chance) if chance < 1 else float("nan")


def agreement(
    votes: Sequence[Sequence[str]], labels: Sequence[str], groups: Sequence[str], *, seed: int = 0, draws: int = 1000
) -> Agreement:
    """Agreement of votes, with a percentile bootstrap interval over groups of items.

    Args:
        votes: of each item.
        labels: that votes may have.
        groups: of each item; items of one are drawn together.
        seed: of the draws.
        draws: how many.
    """
    counts = table(votes, labels)
    disagreeing, kept = _parts(counts)
    names, codes = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    low = high = float("nan")
    if len(names) > 1:  # one group says nothing about spread
        rng = np.random.default_rng(seed)
        times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)[:, codes]
        found = _alpha(times @ disagreeing, times @ kept)
        usable = found[np.isfinite(found)]
        if len(usable):
            low, high = map(float, np.quantile(usable, (0.025, 0.975)))
    return Agreement(alpha(counts), low, high, kappa(counts), int((counts.sum(axis=1) >= 2).sum()))


def _parts(counts: Counts) -> tuple[Counts, Counts]:
    """(items,) disagreeing pairs of votes over votes less one; (items, labels) votes; 0 for items with one vote."""
    votes = counts.sum(axis=1, keepdims=True)
    kept = np.where(votes >= 2, counts, 0.0)
    return (kept * (votes - kept) / np.maximum(votes - 1, 1)).sum(axis=1), kept


def _alpha(observed: Any, totals: Counts) -> Counts:
    """Alpha from sums over items, which may have been drawn any number of times: (...) and (..., labels)."""
    n = totals.sum(axis=-1)
    expected = (totals * (n[..., None] - totals)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (n - 1) * observed / expected, np.nan))
