"""Aggregates over languages: their text, their values by hand, and their standard errors against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators._stats import score_of
from evaluators._types import Score
from search.statistics import aggregates
from search.statistics.aggregates import Aggregate, AggregateError, completed, measured, objective_scores, parse, score

Scores = dict[tuple[str, str], Score]
LANGUAGES = ("ar", "en", "es", "fr", "hi", "ru")


@pytest.mark.parametrize(
    ("text", "expected", "canonical"),
    [
        ("general", Aggregate("mean", "general"), "general"),
        ("mean( x.y-z )", Aggregate("mean", "x.y-z"), "x.y-z"),
        ("2wiki", Aggregate("mean", "2wiki"), "2wiki"),
        ("cvar(1e5x,1)", Aggregate("cvar", "1e5x", 1.0), "cvar(1e5x, 1.0)"),
        ("min_language(general)", Aggregate("min_language", "general"), "min_language(general)"),
        ("max_language (general)", Aggregate("max_language", "general"), "max_language(general)"),
        ("cvar(general,.3)", Aggregate("cvar", "general", 0.3), "cvar(general, 0.3)"),
        ("cvar( general , 1 )", Aggregate("cvar", "general", 1.0), "cvar(general, 1.0)"),
    ],
)
def test_texts(text: str, expected: Aggregate, canonical: str) -> None:
    assert parse(text) == expected
    assert str(expected) == canonical
    assert parse(canonical) == expected
    assert aggregates.canonical(text) == canonical


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "cannot read ''"),
        ("a b", "cannot read 'a b'"),
        ("0.5", "cannot read '0.5'"),
        ("min_language(5)", "cannot read"),
        ("min_language()", r"cannot read 'min_language\(\)'"),
        ("min_language(a, 0.3)", "min_language takes an evaluator alone"),
        ("median(a)", "unknown aggregate 'median'"),
        ("cvar(a)", "cvar takes an evaluator and a share"),
        ("cvar(a, 0)", "cvar takes an evaluator and a share"),
        ("cvar(a, 1.01)", "cvar takes an evaluator and a share"),
        ("cvar(a, 30%)", "cannot read"),
    ],
)
def test_what_is_no_aggregate(text: str, rule: str) -> None:
    with pytest.raises(AggregateError, match=rule):
        parse(text)
    assert aggregates.canonical(text) == text


def scores_of(values: dict[str, float], stderr: float = 0.0, n: int = 50) -> Scores:
    mean = sum(values.values()) / len(values)
    overall = Score(mean, stderr / len(values) ** 0.5, n * len(values))
    return {("x", ""): overall, **{("x", language): Score(value, stderr, n) for language, value in values.items()}}


@pytest.mark.parametrize(
    ("text", "larger_is_better", "expected"),
    [
        ("x", True, 0.5),
        ("min_language(x)", True, 0.2),
        ("max_language(x)", False, 0.8),
        ("cvar(x, 0.25)", True, 0.2),
        ("cvar(x, 0.01)", True, 0.2),
        ("cvar(x, 0.5)", True, 0.3),
        ("cvar(x, 0.5)", False, 0.7),
        ("cvar(x, 0.375)", True, (0.2 + 0.5 * 0.4) / 1.5),
        ("cvar(x, 1)", True, 0.5),
        ("cvar(x, 1)", False, 0.5),
    ],
)
def test_values_by_hand(text: str, larger_is_better: bool, expected: float) -> None:
    scores = scores_of({"en": 0.8, "fr": 0.6, "hi": 0.2, "ar": 0.4})
    assert score(parse(text), scores, larger_is_better).value == pytest.approx(expected, abs=1e-15)
    assert aggregates.value(parse(text), scores, larger_is_better) == pytest.approx(expected, abs=1e-15)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.floats(0.01, 1), st.booleans())
def test_cvar_lies_between_the_worst_language_and_the_mean(values: list[float], share: float, larger: bool) -> None:
    scores = scores_of({f"l{number}": value for number, value in enumerate(values)})
    found = aggregates.value(Aggregate("cvar", "x", share), scores, larger)
    worst, mean = (min(values) if larger else max(values)), sum(values) / len(values)
    assert min(worst, mean) - 1e-12 <= found <= max(worst, mean) + 1e-12


@given(
    st.sampled_from([Aggregate("min_language", "x"), Aggregate("max_language", "x"), Aggregate("cvar", "x", 0.45)]),
    st.lists(st.floats(0, 1), min_size=2, max_size=7),
    st.booleans(),
)
def test_an_order_and_its_parts_make_the_aggregate(aggregate: Aggregate, values: list[float], larger: bool) -> None:
    scores = scores_of({f"l{number}": value for number, value in enumerate(values)})
    parts = sorted(one.value for one in aggregates.parts(aggregate, scores))
    order = aggregates.order(aggregate, len(parts), larger)
    assert sum(order) == pytest.approx(1.0)
    made = sum(weight * part for weight, part in zip(order, parts, strict=True))
    assert made == pytest.approx(aggregates.value(aggregate, scores, larger), abs=1e-12)


def test_objectives_are_scored_in_their_order() -> None:
    scores = scores_of({"en": 0.8, "hi": 0.2}, 0.01)
    found = objective_scores({"cvar(x, 0.5)": "min", "x": "max", "min_language(x)": "max"}, scores)
    assert [(name, round(one.value, 12)) for name, one in found.items()] == [
        *(("cvar(x, 0.5)", 0.8), ("x", 0.5), ("min_language(x)", 0.2)),
    ]
    assert found["min_language(x)"].n == 100
    both = completed({"x": "max", "min_language(x)": "max"}, scores)
    assert both == {**scores, ("min_language(x)", ""): found["min_language(x)"]}


def test_without_scores_by_language_that_over_all_items_stands() -> None:
    alone: Scores = {("x", ""): Score(0.4, 0.1, 9)}
    for text in ("x", "min_language(x)", "cvar(x, 0.3)"):
        assert score(parse(text), alone, True) == alone["x", ""]
        assert aggregates.value(parse(text), alone, True) == 0.4


def test_the_error_of_one_clear_worst_language_is_its_own() -> None:
    scores = scores_of({"en": 0.9, "fr": 0.8, "hi": 0.2}, 0.03)
    assert score(parse("min_language(x)"), scores, True).stderr == pytest.approx(0.03, rel=0.03)
    assert score(parse("cvar(x, 1)"), scores, True).stderr == pytest.approx(0.03 / 3**0.5, rel=0.03)


def test_the_error_of_the_minimum_of_tied_languages_is_that_of_an_order_statistic() -> None:
    # The smallest of six independent standard normals has standard deviation 0.6449 (Teichroew 1956, table I).
    scores = scores_of(dict.fromkeys(LANGUAGES, 0.5), 0.04)
    assert score(parse("min_language(x)"), scores, True).stderr == pytest.approx(0.6449 * 0.04, rel=0.04)


def test_languages_that_stand_or_fall_together_do_not_average_out() -> None:
    values = dict.fromkeys(LANGUAGES, 0.5)
    scores = scores_of(values, 0.04) | {("x", ""): Score(0.5, 0.04, 300)}  # as uncertain as any one: correlation 1
    assert score(parse("cvar(x, 1)"), scores, True).stderr == pytest.approx(0.04, rel=0.03)
    assert score(parse("min_language(x)"), scores, True).stderr == pytest.approx(0.04, rel=0.03)


def world(rng: np.random.Generator, rates: np.ndarray, groups: int) -> np.ndarray:
    """Items (groups, languages) that share half of their luck within a group."""
    common = rng.standard_normal((groups, 1))
    own = rng.standard_normal((groups, len(rates)))
    from scipy.stats import norm

    bar = norm.ppf(rates)
    return np.asarray((np.sqrt(0.5) * common + np.sqrt(0.5) * own < bar).astype(np.float64))


@pytest.mark.parametrize("text", ["min_language(x)", "cvar(x, 0.3)", "cvar(x, 0.6)"])
@pytest.mark.parametrize("rates", [(0.5,) * 6, (0.4, 0.45, 0.5, 0.6, 0.7, 0.8), (0.2, 0.7, 0.7, 0.7, 0.7, 0.7)])
def test_stated_errors_are_those_of_repeated_evaluation(text: str, rates: tuple[float, ...]) -> None:
    rng, aggregate = np.random.default_rng(7), parse(text)
    groups = [f"g{row}" for row in range(60) for _ in LANGUAGES]
    languages = list(LANGUAGES) * 60
    found, stated = [], []
    for _ in range(120):
        items = world(rng, np.array(rates), 60).ravel()
        scores: Scores = {("x", ""): score_of(items, groups)}
        for code, language in enumerate(LANGUAGES):
            scores["x", language] = score_of(items[code::6], groups[code::6])
        one = score(aggregate, scores, True)
        found.append(one.value)
        stated.append(one.stderr)
        assert one.value == pytest.approx(float(measured(aggregate, items[None], languages, True)[0]))
    true = np.std(found, ddof=1)  # itself known to 6.5 %
    assert 0.8 < np.mean(stated) / true < 1.3
