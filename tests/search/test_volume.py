from __future__ import annotations

import numpy as np
import pytest

from search.statistics.aggregates import Aggregate
from search.statistics.front import hypervolume
from search.statistics.uncertainty import Array, Layout, Quantity, draws, measured
from search.statistics.volume import Parts, hypervolume_interval, parts_of

MEAN = Quantity(Aggregate("mean", "a"))
LOWEST = Quantity(Aggregate("min_language", "a"))
WORST_HALF = Quantity(Aggregate("cvar", "b", 0.5), larger_is_better=False)
MAX2 = ("max", "max")
Bank = tuple[dict[str, Layout], dict[str, Array]]


def bank(points: int, templates: int, seed: int, names: tuple[str, ...] = ("a", "b")) -> Bank:
    """Items of six languages that all points solve with 0.7; half of what decides an item is its template's."""
    rng = np.random.default_rng(seed)
    layouts, values = {}, {}
    for name in names:
        layouts[name] = Layout(
            tuple(f"t{t}" for t in range(templates) for _ in range(6)),
            tuple("enfrhiarruzh"[2 * i : 2 * i + 2] for _ in range(templates) for i in range(6)),
        )
        shared = np.repeat(rng.random(templates), 6)
        own = rng.random((points, 6 * templates))
        values[name] = np.where(rng.random(6 * templates) < 0.5, shared, own) < 0.7
    return layouts, {name: rows.astype(np.float64) for name, rows in values.items()}


def test_parts_make_the_same_objectives_as_draws_do() -> None:
    layouts, values = bank(5, 40, 0)
    objectives = (MEAN, LOWEST, WORST_HALF)
    parts = parts_of(layouts, values, objectives, seed=3)
    assert parts.sizes == (1, 6, 6)
    assert parts.drawn.shape == (5, 400, 13)
    np.testing.assert_allclose(parts.joined(parts.values), measured(layouts, values, objectives))
    np.testing.assert_array_equal(parts.joined(parts.drawn), draws(layouts, values, objectives, seed=3))
    np.testing.assert_array_equal(parts.only([4]).joined(parts.values[[4]]), parts.joined(parts.values)[[4]])


def test_hypervolume_interval_of_known_sets() -> None:
    exact = np.array([[0.5, 0.5]])
    parts = Parts((MEAN, MEAN), (1, 1), exact, np.repeat(exact[:, None], 50, axis=1))
    assert hypervolume_interval(parts, MAX2, (0, 0), groups=50) == pytest.approx((0.25, 0.25, 0.0))
    assert hypervolume_interval(parts.only(slice(0)), MAX2, (0, 0), groups=50) == (0.0, 0.0, 0.0)


def test_equal_points_with_noise_of_their_own_are_found_too_hopeful() -> None:
    rng = np.random.default_rng(0)
    truth, sigma, count = 0.5, 0.05, 30
    values = truth + sigma * rng.standard_normal((count, 2))
    parts = Parts((MEAN, MEAN), (1, 1), values, values[:, None] + sigma * rng.standard_normal((count, 400, 2)))
    low, high, optimism = hypervolume_interval(parts, MAX2, (0, 0), groups=200)
    assert hypervolume(values, MAX2, (0, 0)) > 0.3, "the measured front holds the lucky points"
    assert low < 0.25 < high, "the truth is a quarter"
    assert optimism == pytest.approx(hypervolume(values, MAX2, (0, 0)) - 0.25, abs=0.03)


@pytest.mark.parametrize("points", [1, 30])
def test_the_lowest_of_noisy_languages_is_not_taken_for_the_lowest(points: int) -> None:
    # All languages are solved alike, so the lowest measured one is too low; the best of many points is less so.
    held, tops = 0, []
    for seed in range(40):
        layouts, values = bank(points, 60, seed, ("a",))
        parts = parts_of(layouts, values, (LOWEST,), seed=seed)
        low, high, _ = hypervolume_interval(parts, ("max",), (0.0,), groups=60)
        held += low <= 0.7 <= high
        tops.append(float(parts.joined(parts.values).max()))
    assert points > 1 or np.mean(tops) < 0.68, "there is a bias to be corrected"
    assert 32 <= held <= 40
