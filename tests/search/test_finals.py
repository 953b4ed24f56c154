"""Finals: who is scored in full, on fronts where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from search.racing.finals import deserving
from search.samplers import History, Problem

PROBLEM = Problem(1, ("max", "min"), reference=(0.0, 1.0))
NONE = np.zeros((0, 2))


def history(x: np.ndarray, values: np.ndarray, stderr: float, constraints: np.ndarray | None = None) -> History:
    bounds = np.zeros((len(x), 0)) if constraints is None else constraints
    return History(x[:, None], values, np.full(values.shape, stderr), bounds, np.arange(len(x)))


def front_and_below(count: int, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of a line from (0, 0) to (1, 1), all on the front; those in the middle of the cube are worse by `lost`."""
    x = np.linspace(0.0, 1.0, count)
    worse = lost * np.exp(-(((x - 0.5) / 0.15) ** 2))
    return x, np.column_stack([x - worse, x + worse])


def test_what_adds_most_to_the_front_comes_first_and_what_is_beaten_never() -> None:
    x, values = front_and_below(21, lost=0.3)
    full = np.zeros(21, dtype=bool)
    full[[0, -1]] = True
    chosen = deserving(PROBLEM, history(x, values, 0.01), full, NONE, 0.002, 0)
    assert 3 <= len(chosen) <= 16
    assert not {0, 20} & set(chosen)
    assert all(abs(x[index] - 0.5) > 0.1 for index in chosen), "those in the middle are dominated"
    # Volume between (0, 1) and a line of points: a corner of the widest gap adds most.
    assert abs(x[chosen[0]] - 0.5) < 0.35


def test_of_points_that_are_the_same_one_goes_on() -> None:
    x = np.array([0.0, 1.0, *np.linspace(0.49, 0.51, 12)])
    values = np.column_stack([x, x])
    full = np.arange(14) < 2
    assert 1 <= len(deserving(PROBLEM, history(x, values, 0.002), full, NONE, 0.01, 0)) <= 4


def test_points_that_break_a_constraint_beyond_doubt_stay() -> None:
    x, values = front_and_below(15, lost=0.0)
    full = np.isin(np.arange(15), (0, 14))
    distance = (x - 0.6)[:, None]
    chosen = deserving(PROBLEM, history(x, values, 0.01, distance), full, NONE, 0.002, 0)
    assert chosen
    assert all(x[index] < 0.75 for index in chosen), "the model of the constraint is unsure near its bound alone"


def test_a_model_outside_the_space_that_beats_them_all_leaves_nothing_to_add() -> None:
    x, values = front_and_below(11, lost=0.0)
    full = np.isin(np.arange(11), (0, 10))
    assert deserving(PROBLEM, history(x, values, 0.01), full, NONE, 0.002, 0)
    assert deserving(PROBLEM, history(x, values, 0.01), full, np.array([[1.2, -0.2]]), 0.002, 0) == ()


def test_too_few_scores_for_a_model_let_all_go_on_that_may() -> None:
    x = np.array([0.0, 0.5, 1.0])
    values = np.array([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]])
    full = np.array([True, False, False])
    assert deserving(PROBLEM, history(x, values, 0.01), full, NONE, 0.002, 0) == (1,)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_history_gives_the_same_answer(seed: int) -> None:
    x, values = front_and_below(21, lost=0.2)
    full = np.isin(np.arange(21), (0, 10, 20))
    told = history(x, values + 0.02 * np.random.default_rng(seed).standard_normal(values.shape), 0.02)
    assert deserving(PROBLEM, told, full, NONE, 0.002, seed) == deserving(PROBLEM, told, full, NONE, 0.002, seed)
