"""A front in two pieces: who has found one and models it well is sure of what lies beyond, and wrong."""

from __future__ import annotations

import numpy as np
import pytest

from search.samplers import History, Problem
from search.samplers._gp import Model, doubted, fit
from search.samplers._types import Array
from search.samplers.auto import auto

NOISE = 0.01
SECOND = 0.6  # along the first number the second piece begins beyond it


def dtlz7(x: Array) -> Array:
    """Two losses, as (Deb et al. 2002) has them; its front has x1 in [0, 0.25] and [0.63, 0.86], all others 0."""
    g = 1.0 + 9.0 * x[:, 1:].mean(axis=1)
    return np.column_stack([x[:, 0], (1 + g) * (2 - x[:, 0] / (1 + g) * (1 + np.sin(3 * np.pi * x[:, 0])))])


def problem(dimensions: int) -> Problem:
    return Problem(dimensions, ("min", "min"), reference=(0.95, 4.2))


def history(x: Array, values: Array) -> History:
    return History(x, values, np.full(values.shape, NOISE), np.zeros((len(x), 0)), np.arange(len(x)))


@pytest.mark.parametrize("seed", [2, 4])
def test_both_pieces_are_found(seed: int) -> None:
    rng = np.random.default_rng((seed, 77))
    x, values = np.zeros((0, 4)), np.zeros((0, 2))
    while len(x) < 48:
        x = np.concatenate([x, auto(problem(4), history(x, values), x[:0], seed, len(x))[None]])
        values = np.concatenate([values, dtlz7(x[-1:]) + NOISE * rng.normal(size=(1, 2))])
    assert ((x[:, 1:] < 0.01).all(axis=1) & (x[:, 0] > SECOND)).sum() >= 3


def test_a_doubted_model_agrees_where_it_was_told_and_is_less_sure_elsewhere() -> None:
    rng = np.random.default_rng(0)
    z = 0.3 * rng.random((30, 3))
    model = fit(z, -((z - 0.2) ** 2).sum(axis=1) + 0.001 * rng.normal(size=30), np.full(30, 0.001))
    doubt = doubted(model)
    np.testing.assert_allclose(doubt.mean(z), model.mean(z), atol=4 * np.sqrt(model.noise.max()))
    for share in (0.45, 0.5, 0.55):
        assert _deviation(doubt, np.full(3, share)) > 1.4 * _deviation(model, np.full(3, share))


def _deviation(model: Model, point: Array) -> float:
    cross = model.covariance(point[None], model.z)
    inner = np.linalg.solve(model.covariance(model.z, model.z) + np.diag(model.noise), cross.T)
    return float(np.sqrt(model.variance(point[None])[0] - (cross @ inner)[0, 0]))
