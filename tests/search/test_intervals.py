"""Intervals of the worst language against numbers worked out by hand, and their coverage in simulation."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy.optimize import brentq

from evaluators._stats import interval_of, limits, score_of
from evaluators._types import Score
from search.statistics.aggregates import parse, reduced, score
from search.statistics.intervals import interval

CDF = NormalDist().cdf
LOWEST, HIGHEST = parse("min_language(g)"), parse("max_language(g)")
N = 4000  # items for each language: limits are those of the normal distribution


def of(*values: float, n: int = N) -> tuple[Score, ...]:
    return tuple(Score(value, (value * (1 - value) / n) ** 0.5, n) for value in values)


def independent(scores: tuple[Score, ...]) -> Score:
    """Of all items, where languages have nothing in common."""
    items = sum(one.n for one in scores)
    error = sum((one.n * one.stderr) ** 2 for one in scores) ** 0.5 / items
    return Score(sum(one.n * one.value for one in scores) / items, error, items)


def at(*values: float, text: str = "min_language(g)", larger: bool = True) -> tuple[float, float]:
    scores = of(*values)
    return interval(parse(text), scores, (N,) * len(scores), independent(scores), larger, 0.95)


@pytest.mark.parametrize("languages", [2, 6, 12])
def test_equal_languages_have_the_distances_that_a_calculation_by_hand_gives(languages: int) -> None:
    # Equal: the truth is above one of the upper limits with 5 %. One alone: outside of its own limits with 5 %.
    above = -NormalDist().inv_cdf(1 - 0.95 ** (1 / languages))
    below = brentq(lambda a: CDF(-a) + CDF(-above) - 0.05, 0, 9)
    low, high = at(*(0.5,) * languages)
    error = 0.5 / N**0.5
    a, b = (0.5 - low) / error, (high - 0.5) / error
    # The sum is flat about its least value, and the distances are those of 4,096 draws.
    assert a + b == pytest.approx(below + above, rel=0.02)
    assert 1 - CDF(b) ** languages == pytest.approx(0.05, abs=0.008)
    assert CDF(-a) + CDF(-b) == pytest.approx(0.05, abs=0.008)


def test_a_language_alone_at_the_bottom_has_its_own_interval() -> None:
    low, high = interval_of(of(0.5)[0], N)
    found = at(0.5, 0.7, 0.7, 0.8, 0.9, 0.9)
    assert found[1] - found[0] == pytest.approx(high - low, rel=0.02)
    assert found == pytest.approx((low, high), abs=0.002)
    assert at(0.5, 0.7) == pytest.approx(found, abs=0.002)


def test_languages_that_share_all_have_the_interval_of_one() -> None:
    scores = of(*(0.5,) * 6)
    same = Score(0.5, scores[0].stderr, 6 * N)
    low, high = interval(LOWEST, scores, (N,) * 6, same, True, 0.95)
    assert (low, high) == pytest.approx(interval_of(scores[0], N), abs=0.001)


@pytest.mark.parametrize("text", ["min_language(g)", "cvar(g, 0.5)", "cvar(g, 0.4)", "cvar(g, 1.0)"])
def test_upside_down_is_the_same(text: str) -> None:
    values = (0.5, 0.51, 0.49, 0.6, 0.7, 0.55)
    low, high = at(*values, text=text)
    other = text.replace("min", "max")
    upside = at(*(1 - value for value in values), text=other, larger=False)
    assert (1 - upside[1], 1 - upside[0]) == pytest.approx((low, high), abs=0.0015)
    measured = float(reduced(parse(text), np.array([values]), True)[0])
    assert low < measured < high


def test_where_all_items_agree() -> None:
    scores = of(*(1.0,) * 3, n=40)
    low, high = interval(LOWEST, scores, (40,) * 3, Score(1.0, 0.0, 120), True, 0.9)
    assert 0.85 < low < 0.97
    assert high == 1.0


def test_one_sided_limits_are_as_sure_as_they_say() -> None:
    # Exact, over all outcomes of n independent items: the upper limit for a mean near 1, where Wilson's fails.
    from scipy.stats import binom

    for n, rate in ((60, 0.95), (150, 0.95), (250, 0.97), (250, 0.5)):
        chance = binom.pmf(np.arange(n + 1), n, rate)
        missed = wilson = 0.0
        for right in range(n + 1):
            p = right / n
            score = Score(p, (p * (1 - p) / (n - 1)) ** 0.5, n)
            missed += chance[right] * (limits(score, n, 0.0085, 0.0085)[1] < rate)
            wilson += chance[right] * (interval_of(score, n, level=1 - 0.017)[1] < rate)
        assert missed <= 0.0099
        assert rate == 0.5 or n == 60 or wilson > 0.014


WORLDS = {
    "equal": np.full(6, 0.7),
    "equal, high": np.full(6, 0.95),
    "one, by an error": np.array([0.64] + [0.7] * 5),
    "apart": np.array([0.9, 0.45, 0.6, 0.85, 0.8, 0.7]),
}


@pytest.mark.parametrize(
    ("world", "text"), [*((world, "min_language(g)") for world in WORLDS), ("equal", "cvar(g, 0.5)")]
)
def test_intervals_over_languages_cover(world: str, text: str) -> None:
    rates, aggregate, templates = WORLDS[world], parse(text), 60
    truth = float(reduced(aggregate, rates[None], True)[0])
    draw = np.random.default_rng(5)
    runs, hit, naive = 200, 0, 0
    names = [str(template) for template in range(templates)]
    for _ in range(runs):
        easy = 0.04 * draw.choice([-1.0, 1.0], (templates, 1))  # an easy template is easy in all languages
        values = draw.binomial(1, rates + easy).astype(float)
        each = {("g", str(place)): score_of(values[:, place], names) for place in range(6)}
        each["g", ""] = score_of(values.ravel(), np.repeat(names, 6).tolist())
        found = score(aggregate, each, True)
        scores = tuple(one for (_, language), one in each.items() if language)
        low, high = interval(aggregate, scores, (templates,) * 6, each["g", ""], True, 0.95)
        hit += low <= truth <= high
        naive += abs(found.value - truth) <= 1.96 * found.stderr
    # 200 runs know a coverage of 0.95 to 0.03 (two standard errors); benchmarks/coverage.py has more.
    assert hit / runs >= 0.92
    if world == "equal":
        assert naive / runs < 0.85  # value +- errors does not cover: this is why there are intervals
