from __future__ import annotations

import numpy as np
import pytest

from search._recipe.constraints import parse
from search.statistics.aggregates import Aggregate
from search.statistics.uncertainty import (
    Layout,
    Quantity,
    bounded,
    draws,
    margins,
    measured,
    objectives_of,
    p_on_front,
)

MEAN = Quantity(Aggregate("mean", "a"))
LOWEST = Quantity(Aggregate("min_language", "a"))
MAX1, MAX2 = ("max",), ("max", "max")


def layout(groups: list[str], languages: str = "") -> Layout:
    return Layout(tuple(groups), tuple(languages or ["en"] * len(groups)))


def on_front(values: np.ndarray, groups: list[str], resamples: int = 400) -> np.ndarray:
    drawn = draws({"a": layout(groups)}, {"a": values}, (MEAN,), resamples=resamples, seed=0)
    return p_on_front(drawn, MAX1, np.ones(len(values), dtype=bool))


def test_draws_agree_with_the_formula_for_the_standard_error() -> None:
    from evaluators._stats import score_of

    rng = np.random.default_rng(0)
    groups = [f"g{i // 4}" for i in range(400)]
    values = (rng.random((1, 400)) < np.repeat(rng.random(100), 4)).astype(float)
    drawn = draws({"a": layout(groups)}, {"a": values}, (MEAN,), resamples=4000, seed=1)
    assert drawn.shape == (1, 4000, 1)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.003)
    assert drawn.std() == pytest.approx(score_of(values[0], groups).stderr, rel=0.06)


def test_points_see_the_same_draws_and_so_do_the_numbers_of_one_evaluator() -> None:
    rng = np.random.default_rng(1)
    groups = [f"g{i // 2}" for i in range(120)]
    values = (rng.random((1, 120)) < 0.5).astype(float)
    both = np.concatenate([values, 1 - values])
    known = {"a": layout(groups, "".join("ef"[i % 2] for i in range(120)))}
    drawn = draws(known, {"a": both}, (MEAN, LOWEST), resamples=300, seed=0)
    np.testing.assert_allclose(drawn[0, :, 0] + drawn[1, :, 0], 1.0)
    assert (drawn[:, :, 1] <= drawn[:, :, 0] + 1e-12).all(), "the lowest language is never above the mean"
    np.testing.assert_array_equal(drawn, draws(known, {"a": both}, (MEAN, LOWEST), resamples=300, seed=0))


def test_a_prefix_uses_the_first_items_alone() -> None:
    known = {"a": layout([f"g{i}" for i in range(50)])}
    values = np.arange(50.0)[None] / 50
    np.testing.assert_allclose(measured(known, {"a": values[:, :10]}, (MEAN,)), [[0.09]])
    drawn = draws(known, {"a": values[:, :10]}, (MEAN,), resamples=50, seed=0)
    assert drawn.max() <= 0.18


def test_a_language_left_out_of_a_draw_keeps_its_mean() -> None:
    known = {"a": layout(["x", "y", "y", "y"], "feee")}
    drawn = draws(known, {"a": np.array([[0.0, 1.0, 1.0, 1.0]])}, (LOWEST,), resamples=100, seed=0)
    np.testing.assert_array_equal(drawn, 0.0)


def test_p_on_front_is_one_when_nothing_can_change_and_fair_when_all_is_noise() -> None:
    groups = [str(i // 2) for i in range(200)]
    sure = np.stack([np.ones(200), np.zeros(200)])
    np.testing.assert_allclose(on_front(sure, groups), [1.0, 0.0])
    # Two models that are right on the same number of other items: each wins half of the resamples.
    order = np.random.default_rng(0).permutation(200)
    noise = np.zeros((2, 200))
    noise[0, order[:100]] = 1.0
    noise[1, order[100:]] = 1.0
    np.testing.assert_allclose(on_front(noise, groups, 2000), 0.5, atol=0.06)


def test_p_on_front_resamples_whole_groups() -> None:
    # One group holds all that separates the two: it is left out with probability (1 - 1/4)^4 = 0.316.
    groups = ["a", "b", "c", "d"] * 25
    values = np.zeros((2, 100))
    values[0] = [1.0 if group == "a" else 0.0 for group in groups]
    chance = on_front(values, groups, 4000)
    assert chance[0] == 1.0
    assert chance[1] == pytest.approx(0.75**4, abs=0.03)


def test_doubtful_feasibility_counts() -> None:
    # The better point keeps its constraint in half of the draws; the other is on the front in the rest.
    drawn = np.zeros((2, 100, 2))
    drawn[0] = 1.0
    keeps = np.stack([np.arange(100) < 50, np.ones(100, dtype=bool)])
    np.testing.assert_allclose(p_on_front(drawn, MAX2, keeps), [0.5, 0.5])
    np.testing.assert_allclose(p_on_front(drawn, MAX2, np.array([False, True])), [0.0, 1.0])


def test_margins_of_draws_are_relative_to_the_base_in_the_same_draw() -> None:
    bounds = (parse("a >= base * 0.5 - 0.1"), parse("a <= 0.7"))
    assert [q.evaluator for q in bounded(bounds)] == ["a", "a"]
    point, base = np.array([[0.6, 0.6], [0.2, 0.2]]), np.array([[0.8, 0.8], [0.8, 0.8]])
    np.testing.assert_allclose(margins(bounds, point, base), [[-0.3, -0.1], [0.1, -0.5]])
    assert margins((), point, base).shape == (2, 0)


def test_objectives_are_read_as_aggregates() -> None:
    found = objectives_of({"general": "max", "max_language(harm)": "min"})
    assert [(q.evaluator, q.aggregate.kind, q.larger_is_better) for q in found] == [
        ("general", "mean", True),
        ("harm", "max_language", False),
    ]
