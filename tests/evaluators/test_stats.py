from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators._stats import (
    bootstrap,
    holm,
    interval,
    paired_difference,
    per_language,
    score_of,
    student,
)
from evaluators._types import Item


def slow_stderr(values: Sequence[float], groups: Sequence[str]) -> float:
    """The formula of `score_of`, written out."""
    mean = sum(values) / len(values)
    names = list(dict.fromkeys(groups))
    total = sum(
        sum(value - mean for value, group in zip(values, groups, strict=True) if group == name) ** 2 for name in names
    )
    return float((len(names) / (len(names) - 1) * total) ** 0.5 / len(values))


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_equals_the_formula_written_out(rows: list[tuple[float, str]]) -> None:
    values, groups = [value for value, _ in rows], [group for _, group in rows]
    score = score_of(values, groups)
    assert score.value == pytest.approx(float(np.mean(values)), abs=1e-12)
    assert score.n == len(rows)
    if len(set(groups)) > 1:
        assert score.stderr == pytest.approx(slow_stderr(values, groups), abs=1e-9)
    else:
        assert score.stderr == 0.5


def test_single_items_give_the_usual_error_of_a_mean() -> None:
    values = np.asarray([0, 1, 1, 0, 1, 1, 1.0])
    score = score_of(values, [str(row) for row in range(7)])
    assert score.stderr == pytest.approx(values.std(ddof=1) / 7**0.5)


def test_copies_of_an_item_add_nothing() -> None:
    values, groups = [0, 1, 1, 0.5], ["a", "b", "c", "d"]
    assert score_of(values * 6, groups * 6).stderr == pytest.approx(score_of(values, groups).stderr)


def test_paired_difference_cancels_what_is_common() -> None:
    draw = np.random.default_rng(0)
    hard = draw.random(200)
    a, b = hard, np.clip(hard + 0.01, 0, 1)
    groups = [str(row) for row in range(200)]
    found = paired_difference(b, a, groups)
    assert found.value == pytest.approx(0.01, abs=2e-3)
    assert found.stderr < score_of(a, groups).stderr / 10
    assert paired_difference(a, b, groups).value == pytest.approx(-found.value)
    assert paired_difference([1.0], [0.0], ["a"]).stderr == 1.0
    with pytest.raises(ValueError, match="same items"):
        paired_difference([1.0, 0.0], [1.0], ["a"])


def test_per_language_keeps_the_order_of_appearance() -> None:
    items = [Item(str(row), "p", "", "fr" if row < 2 else "en", str(row), "", "search") for row in range(5)]
    found = per_language([1, 0, 1, 1, 0], items)
    assert list(found) == ["fr", "en"]
    assert (found["fr"].value, found["fr"].n) == (0.5, 2)
    assert found["en"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("values", "groups", "text"),
    [
        ([], [], "at least one item"),
        ([1.0], ["a", "b"], "1 values for 2 groups"),
        ([float("nan")], ["a"], "not finite"),
    ],
)
def test_bad_values(values: list[float], groups: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        score_of(values, groups)


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # 0.975 quantiles of Student's t, standard tables
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (100, 1.984)],
)
def test_student_quantiles(freedom: int, quantile: float) -> None:
    assert student(0.975, freedom) == pytest.approx(quantile, rel=0.0005)


def clustered(draw: np.random.Generator, groups: int, share: float) -> tuple[np.ndarray, list[str]]:
    """Bernoulli items of 1 to 8 per group; each group has its own probability, with mean `share`."""
    sizes = draw.integers(1, 9, groups)
    chance = draw.beta(2 * share, 2 * (1 - share), groups)
    return draw.binomial(1, np.repeat(chance, sizes)).astype(float), np.repeat(np.arange(groups), sizes).astype(
        str
    ).tolist()


@pytest.mark.parametrize(("groups", "share"), [(30, 0.5), (60, 0.9), (60, 0.95), (150, 0.5), (150, 0.95)])
def test_intervals_cover(groups: int, share: float) -> None:
    draw = np.random.default_rng(groups + int(100 * share))
    runs = 2000
    hit = naive = 0
    for _ in range(runs):
        values, names = clustered(draw, groups, share)
        low, high = interval(values, names)
        hit += low <= share <= high
        score = score_of(values, [str(row) for row in range(len(values))])
        naive += abs(score.value - share) <= 1.96 * score.stderr
    # 2,000 runs know a coverage of 0.95 to +-0.01 (two standard errors).
    assert 0.93 <= hit / runs <= 0.97
    assert naive / runs < 0.90  # ignoring the groups does not cover: this is why they are there


@pytest.mark.parametrize("draws", ["paired", "skewed"])
def test_intervals_of_differences_and_of_skewed_values_cover(draws: str) -> None:
    draw = np.random.default_rng(7)
    runs, groups = 1000, 60
    normal = booted = 0
    for number in range(runs):
        sizes = draw.integers(1, 6, groups)
        names = np.repeat(np.arange(groups), sizes).astype(str).tolist()
        if draws == "paired":
            # Two models on the same items, of which they answer six in ten in the same way.
            hard = np.repeat(draw.beta(2, 2, groups), sizes)
            first = draw.binomial(1, hard * 0.9).astype(float)
            other = draw.binomial(1, hard * 0.9 + 0.08)
            second = np.where(draw.uniform(size=len(hard)) < 0.4, other, first)
            truth = 0.4 * 0.08
            score, values = paired_difference(second, first, names), second - first
        else:
            # Likelihoods: bounded, most of them small.
            values = np.repeat(draw.beta(0.5, 3, groups), sizes) * draw.beta(8, 2, sizes.sum())
            truth = 0.5 / 3.5 * 0.8
            score = score_of(values, names)
        half = student(0.975, groups - 1) * score.stderr
        normal += abs(score.value - truth) <= half
        low, high = bootstrap(values, names, seed=number, resamples=300)
        booted += low <= truth <= high
    assert 0.93 <= booted / runs <= 0.97
    if draws == "paired":
        assert 0.93 <= normal / runs <= 0.97


def test_bootstrap_at_the_edges() -> None:
    assert bootstrap([1.0, 0.5], ["a", "a"]) == (-np.inf, np.inf)
    assert bootstrap([1.0, 1.0, 1.0], ["a", "b", "c"]) == (1.0, 1.0)
    values, names = np.random.default_rng(0).beta(1, 3, 40).tolist(), list(map(str, range(40)))
    assert bootstrap(values, names, seed=1) == bootstrap(values, names, seed=1) != bootstrap(values, names, seed=2)


def test_holm_corrects_as_its_paper_does() -> None:
    # Worked by hand: 4 p1, then 3 p2, 2 p3, p4, never falling, never above 1.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    # Among equal models, at most one study in twenty calls anything a difference.
    chances = np.random.default_rng(3).uniform(size=(4000, 20))
    wrong = np.mean([min(holm(row.tolist())) <= 0.05 for row in chances])
    assert wrong <= 0.05 + 2 * (0.05 * 0.95 / 4000) ** 0.5


def test_groups_that_hardly_fail_count_as_one_each() -> None:
    # 30 groups of 5 in which one item failed: 150 independent items, or 30? Nearly nothing is known of that, so the
    # interval lies between, and the fewer fail the nearer to that of 30.
    groups = np.repeat(np.arange(30), 5).astype(str).tolist()
    values = np.ones(150)
    highest = interval(values, groups)[0]
    values[0] = 0
    apart = interval(values, [str(row) for row in range(150)])[0]
    assert highest < interval(values, groups)[0] < apart - 0.01
    # Values between 0 and 1 that do not differ much are no share of failures: their interval stays that of their error.
    small = np.random.default_rng(1).uniform(0.01, 0.03, 60)
    low, high = interval(small, [str(row) for row in range(60)])
    error = score_of(small, [str(row) for row in range(60)]).stderr
    assert high - low == pytest.approx(2 * student(0.975, 59) * error, rel=0.03)


def test_interval_at_the_edges() -> None:
    low, high = interval([1.0] * 40, [str(row) for row in range(40)])
    assert 0.89 < low < 0.93
    assert high == 1.0
    assert interval([1.0, 0.0], ["a", "a"]) == (0.0, 1.0)
