from __future__ import annotations

from dataclasses import replace

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import approx_fprime

from search.samplers import History, Problem, believed
from search.samplers import _moves as moves
from search.samplers._features import features, from_sticks, to_sticks
from search.samplers._gp import Model, fit, paths
from search.samplers._improvement import improvement
from search.samplers._types import Array
from search.samplers.auto import auto
from search.samplers.random import random
from search.space import from_sticks as sticks_of_one_point

NONE = np.zeros((0, 3))


def bowls(x: Array) -> Array:
    return np.column_stack([-((x - 0.25) ** 2).sum(axis=1), ((x - 0.75) ** 2).sum(axis=1)])


def history_of(x: Array, values: Array, noise: float, constraints: Array | None = None) -> History:
    limits = np.zeros((len(x), 0)) if constraints is None else constraints
    return History(x, values, np.full(values.shape, noise), limits, np.arange(len(x)))


def searched(propose, count: int, noise: float, seed: int, limit: float | None = None) -> Array:  # type: ignore[no-untyped-def]
    """Points of a sequential search on `bowls`; with a limit, x0 + x1 <= limit is asked for."""
    problem = Problem(3, ("max", "min"))
    rng = np.random.default_rng(seed)
    x, values = np.zeros((0, 3)), np.zeros((0, 2))
    for number in range(count):
        constraints = None if limit is None else (x[:, :2].sum(axis=1) - limit)[:, None]
        point = propose(problem, history_of(x, values, noise, constraints), NONE, seed, number)
        x = np.concatenate([x, point[None]])
        values = np.concatenate([values, bowls(point[None]) + noise * rng.normal(size=(1, 2))])
    return x


def volume(x: Array) -> float:
    return float(moocore.hypervolume(bowls(x) * np.array([-1.0, 1.0]), ref=[0.75, 0.75]))


def test_auto_finds_more_of_the_front_in_24_points_than_random_does_in_240() -> None:
    assert volume(searched(auto, 24, 0.01, seed=1)) > volume(searched(random, 240, 0.01, seed=1))


def test_auto_spends_its_points_where_constraints_are_kept() -> None:
    # The unconstrained front is the diagonal up to 0.75; most of it is beyond the limit.
    x = searched(auto, 24, 0.0, seed=2, limit=0.7)
    assert (x[8:, :2].sum(axis=1) <= 0.7 + 1e-6).mean() >= 0.7
    assert x[8:, :2].sum(axis=1).max() > 0.6  # and goes up to the bound, where the best points are


def test_points_under_way_are_not_asked_again() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((15, 3))
    history, problem = history_of(x, bowls(x), 0.01), Problem(3, ("max", "min"))
    flying = NONE
    for number in range(15, 19):
        point = auto(problem, history, flying, 0, number)
        assert not len(flying) or np.abs(flying - point).max(axis=1).min() > 0.02
        flying = np.concatenate([flying, point[None]])


def test_regions_that_fail_are_left() -> None:
    """Everything with x0 < 1/2 fails, although the best points for one objective are there."""
    problem = Problem(3, ("max", "min"))
    x, values = np.zeros((0, 3)), np.zeros((0, 2))
    for number in range(40):
        point = auto(problem, history_of(x, values, 0.0), NONE, 0, number)
        x = np.concatenate([x, point[None]])
        values = np.concatenate([values, np.where(point[0] < 0.5, np.nan, bowls(point[None]))])
    assert np.isnan(values[10:]).any(axis=1).mean() <= 0.4


@pytest.mark.parametrize("value", [0.0, 1e9])
def test_constant_scores_and_a_space_of_one_number_are_no_trouble(value: float) -> None:
    problem = Problem(1, ("max", "max"))
    x = np.linspace(0.1, 0.9, 6)[:, None]
    point = auto(problem, history_of(x, np.full((6, 2), value), 0.0), np.zeros((0, 1)), 0, 6)
    assert point.shape == (1,)
    assert 0.0 <= point[0] <= 1.0


def test_nothing_scored_but_failures_still_gets_an_answer() -> None:
    x = np.random.default_rng(1).random((8, 3))
    history = history_of(x, np.full((8, 2), np.nan), np.nan)
    assert auto(Problem(3, ("max", "min")), history, NONE, 0, 8).shape == (3,)


def test_scaling_and_shifting_the_scores_does_not_change_the_question() -> None:
    x = np.random.default_rng(2).random((12, 3))
    noise = 0.01 * np.random.default_rng(3).normal(size=(12, 2))
    values, problem = bowls(x) + noise, Problem(3, ("max", "min"))
    plain = auto(problem, history_of(x, values, 0.01), NONE, 0, 12)
    errors = np.full((12, 2), 0.01) * [8.0, 1024.0]
    moved = History(x, values * [8.0, 1024.0] + [16.0, 0.0], errors, np.zeros((12, 0)), np.arange(12))
    assert np.allclose(auto(problem, moved, NONE, 0, 12), plain, atol=1e-3)


def test_beliefs_are_nearer_to_the_truth_than_measurements() -> None:
    rng = np.random.default_rng(6)
    x = rng.random((40, 3))
    values = bowls(x) + 0.05 * rng.normal(size=(40, 2))
    found = believed(Problem(3, ("max", "min")), x, values, np.full((40, 2), 0.05))
    assert ((found - bowls(x)) ** 2).mean() < 0.5 * ((values - bowls(x)) ** 2).mean()


# -- the parts ---------------------------------------------------------------------------------------------------------


def model_and_points(seed: int = 0):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    z = rng.random((25, 3))
    losses = -bowls(z) * [1.0, -1.0] + 0.02 * rng.normal(size=(25, 2))
    models = [fit(z, losses[:, j], np.full(25, 0.02)) for j in range(2)]
    return models, rng.random((40, 3)), rng


def with_curvature(model: Model, amplitude: float) -> Model:
    changed = replace(model, amplitudes=np.array([*model.amplitudes[:2], amplitude, model.amplitudes[3]]))
    lower = cholesky(changed.covariance(model.z, model.z) + np.diag(model.noise), lower=True)
    return replace(changed, lower=lower, weights=cho_solve((lower, True), model.y))


def test_common_curvature_is_taken_where_scores_speak_for_it_alone() -> None:
    rng = np.random.default_rng(4)
    z, other = rng.random((40, 12)), rng.random((200, 12))

    def bowl(at: Array) -> Array:
        return np.asarray(((at - 0.3) ** 2).sum(axis=1))

    def one_direction(at: Array) -> Array:
        return np.asarray((at @ np.linspace(-1.0, 1.0, 12)) ** 2)

    noise = 0.03 * rng.normal(size=40)
    round_one, ridge = (fit(z, shape(z) + noise, np.full(40, 0.03)) for shape in (bowl, one_direction))
    assert round_one.amplitudes[2] > 0
    assert ridge.amplitudes[2] == 0
    # 40 scores for 91 coefficients: without the curvature half of the spread stays unexplained.
    predicted = round_one.centre + round_one.scale * round_one.mean(other)
    assert np.std(predicted - bowl(other)) < 0.25 * np.std(bowl(other))


def test_draws_have_the_mean_and_the_spread_of_the_exact_posterior() -> None:
    (model, _), z, rng = model_and_points()
    drawn = paths(model, np.zeros((0, 3)), 4000, rng).at(z)
    cross = model.covariance(z, model.z)
    exact = model.variance(z) - (solve_triangular(model.lower, cross.T, lower=True) ** 2).sum(axis=0)
    mean = model.centre + model.scale * model.mean(z)
    deviation = model.scale * np.sqrt(exact)
    assert np.abs(drawn.mean(axis=1) - mean).max() < 5 * deviation.max() / np.sqrt(4000)
    assert np.abs(drawn.std(axis=1) / deviation - 1.0).max() < 0.12


def test_draws_agree_with_themselves_at_points_under_way() -> None:
    (model, _), z, rng = model_and_points()
    drawn = paths(model, z[:3], 50, rng)
    assert np.abs(drawn.at(z[:3]) - drawn.values[-3:]).max() < 0.02 * model.scale


def test_improvement_is_the_exact_hypervolume_that_draws_add() -> None:
    models, z, rng = model_and_points()
    drawn = tuple(paths(model, np.zeros((0, 3)), 32, rng) for model in models)
    reference = np.array([0.6, 0.6])
    nodes = np.stack([path.values for path in drawn], axis=2)
    added = np.zeros(len(z))
    for draw in range(32):
        before = moocore.hypervolume(nodes[:, draw], ref=reference)
        for index in range(len(z)):
            point = np.array([path.at(z[index : index + 1])[0, draw] for path in drawn])
            added[index] += moocore.hypervolume(np.vstack([nodes[:, draw], point]), ref=reference) - before
    mine = improvement(drawn, (), (), reference, np.ones(2), 4096, 1)(z)
    # The mean over rays leaves out the area of the unit circle's quarter, pi / 4.
    exact = added / 32 / (np.pi / 4)
    assert np.abs(mine - exact).max() < 0.02 * exact.max()


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("constrained", [False, True])
def test_gradients_are_those_of_finite_differences(constrained: bool, curved: bool) -> None:
    models, z, rng = model_and_points()
    models = [with_curvature(model, 3.0 * curved) for model in models]
    drawn = tuple(paths(model, z[:2], 16, rng) for model in models)
    limit = (paths(fit(models[0].z, models[0].z.sum(axis=1) - 1.5, None), z[:2], 16, rng),) if constrained else ()
    gain = improvement(drawn, limit, (), np.array([0.6, 0.6]), np.ones(2), 64, 1)
    value, slope = gain.gradient(z)
    assert np.allclose(value, gain(z), rtol=1e-9, atol=1e-12)
    best = np.argsort(-value)[:5]
    for index in best:
        numeric = approx_fprime(z[index], lambda p: gain(p[None])[0], 1e-7)
        assert np.allclose(slope[index], numeric, rtol=2e-2, atol=1e-4 * np.abs(slope[best]).max())


weights = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8).filter(lambda w: sum(w) > 1e-3)


@given(weights)
@settings(max_examples=60, deadline=None)
def test_weights_travel_through_sticks_and_back(raw: list[float]) -> None:
    expected = np.array([raw]) / sum(raw)
    assert np.allclose(from_sticks(to_sticks(expected)), expected, atol=1e-6)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=7))
@settings(max_examples=60, deadline=None)
def test_many_sticks_are_broken_as_one_is(sticks: list[float]) -> None:
    assert np.allclose(from_sticks(np.array([sticks]))[0], sticks_of_one_point(sticks), atol=1e-12)


@given(st.lists(st.floats(-3.0, 3.0), min_size=2, max_size=8))
@settings(max_examples=60, deadline=None)
def test_projection_gives_the_nearest_weights(raw: list[float]) -> None:
    point = np.array(raw)
    nearest = moves.project(point[None])[0]
    assert np.isclose(nearest.sum(), 1.0)
    assert nearest.min() >= 0.0
    # The angle to every corner of the simplex is obtuse: the variational inequality of a projection.
    assert ((np.eye(len(point)) - nearest) @ (point - nearest)).max() <= 1e-9


def test_features_of_a_mixed_space_travel_back() -> None:
    problem = Problem(6, ("max",), sticks=((1, 4),), levels=(0, 0, 0, 0, 3, 2))
    x = np.random.default_rng(7).random((50, 6))
    x[:, 4], x[:, 5] = (np.floor(x[:, 4] * 3) + 0.5) / 3, (np.floor(x[:, 5] * 2) + 0.5) / 2
    z = features(problem, x)
    assert z.shape == (50, 1 + 4 + 3 + 1)
    assert np.allclose(moves.points(problem, z), x, atol=1e-9)
    rng = np.random.default_rng(8)
    for changed in (moves.near(problem, z, 64, rng), moves.between(problem, z, 64, rng)):
        assert np.allclose(features(problem, moves.points(problem, changed)), changed, atol=1e-6)
