"""The interval of a hypervolume, against fronts whose true volume is known."""

from __future__ import annotations

import numpy as np
import pytest

from search._study.interval import hypervolume_interval
from search.statistics.front import hypervolume

WAYS = ("max", "max")
REFERENCE = (-0.1, -0.1)


def covered(points: int, noise: float, depth: float, repeats: int, resamples: int) -> tuple[float, float]:
    """Share of 90 % intervals that hold the true volume, and mean bias of the measured one, in half-widths."""
    hits, bias = 0, 0.0
    rng = np.random.default_rng((points, int(1000 * noise)))
    for repeat in range(repeats):
        share = rng.random(points)
        truth = np.sqrt(np.column_stack([share, 1 - share])) - depth * rng.random((points, 1))
        measured = truth + noise * rng.standard_normal(truth.shape)
        stderr = np.full(truth.shape, noise)
        true = hypervolume(truth, WAYS, REFERENCE)
        low, high = hypervolume_interval(measured, stderr, WAYS, REFERENCE, resamples=resamples, seed=repeat)
        hits += low <= true <= high
        bias += (hypervolume(measured, WAYS, REFERENCE) - true) / ((high - low) / 2)
    return hits / repeats, bias / repeats


def test_exact_scores_have_no_spread() -> None:
    values = np.array([[0.2, 0.8], [0.6, 0.5]])
    assert hypervolume_interval(values, np.zeros((2, 2)), WAYS, (0.0, 0.0)) == (0.36, 0.36)


def test_one_point_on_one_axis_is_the_normal_interval() -> None:
    low, high = hypervolume_interval(
        np.array([[0.5]]), np.array([[0.01]]), ("max",), (0.0,), level=0.9, resamples=2000, seed=1
    )
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.001)
    assert (high - low) / 2 == pytest.approx(1.645 * 0.01, rel=0.06)


def test_the_luck_of_a_crowded_front_is_taken_out() -> None:
    share, bias = covered(60, 0.03, 0.02, repeats=24, resamples=60)
    assert bias > 1, "the measured volume itself lies beyond the interval"
    assert share >= 0.75


def test_a_level_must_be_a_share() -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 90"):
        hypervolume_interval(np.ones((1, 2)), np.ones((1, 2)), WAYS, REFERENCE, level=90)


@pytest.mark.slow
@pytest.mark.parametrize(("points", "noise", "depth"), [(10, 0.03, 0.3), (60, 0.03, 0.3), (60, 0.03, 0.02)])
def test_ninety_percent_of_the_intervals_hold_the_truth(points: int, noise: float, depth: float) -> None:
    share, _ = covered(points, noise, depth, repeats=300, resamples=100)
    assert 0.85 <= share <= 0.95, share
