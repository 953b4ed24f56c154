"""Against the worked examples of the measures' authors, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from evaluators.judges.agreement import agreement, alpha, kappa, table
from evaluators.judges.tallies import is_consistent, position_bias, tallied_alpha

# Krippendorff 2011, section C: four observers, twelve units, missing data.
KRIPPENDORFF = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
# Fleiss 1971, as the table of ten subjects and fourteen raters that textbooks print.
FLEISS = (
    """0 0 0 0 14, 0 2 6 4 2, 0 0 3 5 6, 0 3 9 2 0, 2 2 8 1 1, 7 7 0 0 0, 3 2 6 3 0, 2 5 3 2 2, 6 5 2 1 0, 0 2 2 3 7"""
)


def test_krippendorffs_example() -> None:
    rows = [line.split() for line in KRIPPENDORFF]
    units = [[row[unit] for row in rows if row[unit] != "."] for unit in range(12)]
    assert alpha(table(units, "12345")) == pytest.approx(0.743, abs=5e-4)


def test_fleiss_example() -> None:
    counts = np.array([[float(count) for count in row.split()] for row in FLEISS.split(",")])
    assert kappa(counts) == pytest.approx(0.210, abs=5e-4)


def test_the_ends_of_the_scale() -> None:
    same = agreement([("a", "a"), ("b", "b")] * 20, "ab", [str(n) for n in range(40)])
    assert (same.alpha, same.low, same.high, same.kappa) == (1.0, 1.0, 1.0, 1.0)
    assert agreement([("a", "b")] * 40, "ab", [str(n) for n in range(40)]).alpha < 0
    for votes in ([("a", "a")] * 5, [("a",), ("b",)], []):
        nothing = agreement(votes, "ab", [str(n) for n in range(len(votes))])
        assert math.isnan(nothing.alpha)
        assert math.isnan(nothing.low)


def test_the_interval_covers_and_groups_widen_it() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(150):
        truth = rng.random(120) < 0.4
        flips = rng.random((120, 3)) < 0.15
        drawn = [tuple("ab"[int(t ^ f)] for f in row) for t, row in zip(truth, flips, strict=True)]
        found = agreement(drawn, "ab", [str(n) for n in range(120)], draws=300)
        p = 0.4 * 0.85 + 0.6 * 0.15
        expected = 1 - (2 * 0.15 * 0.85) / (2 * p * (1 - p))  # two votes differ if just one of them flips
        inside += found.low <= expected <= found.high
    assert inside >= 132  # 88 % of 150; 95 % is stated, and 132 or fewer would come by luck once in 2,000 times
    votes: Sequence[Sequence[str]] = [("a", "b")] * 30 + [("a", "a")] * 60 + [("b", "b")] * 60
    alone = agreement(votes, "ab", [str(n) for n in range(150)])
    grouped = agreement(votes, "ab", [str(n // 10) for n in range(150)])
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_consistency_and_position_bias() -> None:
    assert is_consistent((("first",), ("second",)))
    assert is_consistent((("tie", "tie"), ("tie", "tie")))
    assert not is_consistent((("first",), ("first",)))
    assert not is_consistent((("first", "tie"), ("second", "second")))
    counts = {"pairs": 4, "consistent pairs": 3, "vote first": 5, "vote second": 1, "vote tie": 2}
    bias = position_bias(counts)
    assert bias is not None
    assert (bias.pairs, bias.consistent, bias.first, bias.ties) == (4, 0.75, 5 / 6, 0.25)
    assert position_bias({}) is None


def test_alpha_of_tallies_is_that_of_the_votes() -> None:
    votes = [("a", "a", "b")] * 3 + [("a", "a", "a")] * 5 + [("b", "b", "b")] * 4
    counts = {"pattern 2,1": 3, "pattern 3,0": 5, "pattern 0,3": 4, "answers": 12}
    assert tallied_alpha(counts) == pytest.approx(alpha(table(votes, "ab")))
    assert math.isnan(tallied_alpha({"pattern 1,0": 9, "pattern 0,1": 9}))
    assert math.isnan(tallied_alpha({}))
