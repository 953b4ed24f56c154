"""What judging says about the judge itself: agreement of repeated votes, and preference for a place.

Counts are kept in the cache by account and evaluator, over all candidates of all runs; answers that the cache knew
count again, since rates are of what was scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .agreement import alpha
from .cache import Cache, default_file
from .settings import Judge

_OUTCOMES = ("first", "second", "tie")
Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""Votes on a pair of texts in its order, and turned round; each "first", "second" or "tie"."""


@dataclass(frozen=True)
class PositionBias:
    """How far a judge prefers a place, over pairs that were shown in both orders.

    Attributes:
        pairs: that were judged.
        consistent: share of pairs with the same outcome in both orders (the same text, or a tie twice).
        first: share of the decisive votes that went to the text shown first; 0.5 is no bias; nan without any.
        ties: share of the votes that were ties.
    """

    pairs: int
    consistent: float
    first: float
    ties: float


def count_votes(judge: Judge, evaluator: str, votes: Sequence[Sequence[str]], labels: Sequence[str]) -> None:
    """Tally votes on single answers: how many of each, and how many answers were not labelled in one voice."""
    counts = Counter(f"vote {vote}" for row in votes for vote in row)
    counts["answers"] = len(votes)
    counts["split answers"] = sum(len(set(row)) > 1 for row in votes)
    counts.update(_pattern(row, labels) for row in votes)
    _add(judge, evaluator, counts)


def count_pairs(judge: Judge, evaluator: str, pairs: Sequence[Pair]) -> None:
    """Tally votes on pairs: how many for each place, and how many pairs had the same outcome in both orders."""
    counts = Counter(f"vote {vote}" for pair in pairs for votes in pair for vote in votes)
    counts["pairs"] = len(pairs)
    counts["consistent pairs"] = sum(is_consistent(pair) for pair in pairs)
    counts.update(_pattern(outcomes(pair), _OUTCOMES) for pair in pairs)
    _add(judge, evaluator, counts)


def outcomes(pair: Pair) -> tuple[str, ...]:
    """All votes on a pair as if it had been shown in its order."""
    turned = {"first": "second", "second": "first", "tie": "tie"}
    return (*pair[0], *(turned[vote] for vote in pair[1]))


def is_consistent(pair: Pair) -> bool:
    """Whether all votes on a pair name the same text, or are ties."""
    return len(set(outcomes(pair))) == 1


def tallied_alpha(counts: Mapping[str, int]) -> float:
    """Krippendorff's alpha of the votes that were tallied; nan where no answer has two, or nothing varies."""
    patterns = {name.split()[1]: count for name, count in counts.items() if name.startswith("pattern ")}
    if not patterns:
        return float("nan")
    rows = np.array([[float(votes) for votes in pattern.split(",")] for pattern in patterns])
    return alpha(np.repeat(rows, list(patterns.values()), axis=0))


def position_bias(counts: Mapping[str, int]) -> PositionBias | None:
    """The bias that tallies show; None where no pair was judged."""
    pairs = counts.get("pairs", 0)
    if not pairs:
        return None
    first, second, tie = (counts.get(f"vote {place}", 0) for place in ("first", "second", "tie"))
    decisive = first + second
    share = first / decisive if decisive else float("nan")
    return PositionBias(pairs, counts.get("consistent pairs", 0) / pairs, share, tie / (decisive + tie))


def _pattern(votes: Sequence[str], labels: Sequence[str]) -> str:
    """How many votes of an answer went to each label, as the name of a tally: agreement needs no more."""
    return "pattern " + ",".join(str(list(votes).count(label)) for label in labels)


def _add(judge: Judge, evaluator: str, counts: Mapping[str, int]) -> None:
    if any(counts.values()):
        with Cache(judge.cache or default_file()) as cache:
            cache.count(judge.account, evaluator, counts)
