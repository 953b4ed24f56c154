from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.statistics import front

MAX2 = ("max", "max")


def slow_front(values: np.ndarray, directions: tuple[str, ...]) -> list[bool]:
    """The definition, pair by pair."""
    loss = [[-v if d == "max" else v for v, d in zip(row, directions, strict=True)] for row in values]
    return [
        not any(
            all(a <= b for a, b in zip(other, row, strict=True)) and any(a < b for a, b in zip(other, row, strict=True))
            for other in loss
        )
        for row in loss
    ]


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(0, 4).map(float)),
    st.tuples(*[st.sampled_from(["max", "min"])] * 3),
)
def test_dominance_is_the_definition(values: np.ndarray, directions: tuple[str, ...]) -> None:
    assert front.non_dominated(values, directions).tolist() == slow_front(values, directions)


def test_infeasible_points_neither_stand_on_the_front_nor_dominate() -> None:
    values = np.array([[1.0, 1.0], [0.5, 0.5], [0.4, 0.4]])
    assert front.non_dominated(values, MAX2, np.array([False, True, True])).tolist() == [False, True, False]


def test_hypervolume_of_known_sets() -> None:
    assert front.hypervolume(np.array([[1.0, 1.0]]), MAX2, (0, 0)) == pytest.approx(1.0)
    stairs = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    assert front.hypervolume(stairs, MAX2, (0, 0)) == pytest.approx(6.0)
    assert front.hypervolume(stairs, ("min", "min"), (4, 4)) == pytest.approx(6.0)
    assert front.hypervolume(np.array([[2.0, 1.0]]), ("max", "min"), (0, 4)) == pytest.approx(6.0)
    assert front.hypervolume(np.array([[-1.0, 5.0]]), MAX2, (0, 0)) == 0.0
    assert front.hypervolume(np.empty((0, 2)), MAX2, (0, 0)) == 0.0
    cube = np.array([[1.0, 1.0, 1.0]])
    assert front.hypervolume(cube, ("max", "max", "min"), (0, 0, 3)) == pytest.approx(2.0)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(0, 1)))
def test_hypervolume_against_a_grid(values: np.ndarray) -> None:
    grid = (np.arange(200) + 0.5) / 200
    x, y = np.meshgrid(grid, grid)
    covered = np.zeros_like(x, dtype=bool)
    for a, b in values:
        covered |= (x <= a) & (y <= b)
    assert front.hypervolume(values, MAX2, (0, 0)) == pytest.approx(covered.mean(), abs=0.02)


def test_the_reference_lies_beyond_the_worst_unmerged_model() -> None:
    values = np.array([[0.5, 0.1], [0.9, 0.3]])
    np.testing.assert_allclose(front.reference_point(values, ("max", "min")), [0.46, 0.32])
    np.testing.assert_allclose(front.reference_point(np.array([[0.5, 0.5]]), MAX2), [0.4, 0.4])


def test_picks() -> None:
    values = np.array([[0.9, 0.1], [0.8, 0.7], [0.1, 0.95], [0.2, 0.2]])
    objectives = {"general": "max", "safety": "max"}
    mask = front.non_dominated(values, MAX2)
    ids = ["general", "1", "2", "3"]
    assert front.pick("knee", ids, values, objectives, mask) == "1"
    assert front.pick("safest", ids, values, objectives, mask) == "2"
    assert front.pick("best-general", ids, values, objectives, mask) == "general"
    assert front.pick("#3", ids, values, objectives, mask) == "3"
    with pytest.raises(ValueError, match="no objective is called speed"):
        front.pick("best-speed", ids, values, objectives, mask)
    with pytest.raises(ValueError, match="front is empty"):
        front.pick("knee", ids, values, objectives, np.zeros(4, dtype=bool))


def test_best_among_equals_is_best_on_the_rest() -> None:
    values = np.array([[0.9, 0.1, 5.0], [0.9, 0.1, 3.0], [0.1, 0.9, 1.0]])
    mask = np.ones(3, dtype=bool)
    assert front.best(values, ("max", "max", "min"), mask, 0) == 1


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 9).map(float)),
    st.sampled_from([0.0, 0.2, 2.0]),
)
def test_contenders_hold_the_front_however_the_scores_move(values: np.ndarray, error: float) -> None:
    errors = np.full(values.shape, error)
    open_ = front.contenders(values, errors, MAX2, np.ones(len(values), dtype=bool))
    moved = values + np.random.default_rng(0).uniform(-4 * error, 4 * error, size=values.shape)
    for shown in (values, moved):
        assert not (front.non_dominated(shown, MAX2) & ~open_).any()
    if error == 0.0:
        assert open_.tolist() == front.non_dominated(values, MAX2).tolist()


def test_points_of_doubtful_feasibility_beat_nobody() -> None:
    values, errors = np.array([[9.0, 9.0], [1.0, 1.0]]), np.full((2, 2), 0.1)
    assert front.contenders(values, errors, MAX2, np.array([True, True])).tolist() == [True, False]
    assert front.contenders(values, errors, MAX2, np.array([False, True])).tolist() == [True, True]
    assert front.contenders(values, errors, MAX2, np.array([False, False])).all()
