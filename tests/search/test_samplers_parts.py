"""Objectives made of their languages' scores: what the sampler is told of them, and what it makes of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from scipy.optimize import approx_fprime

from cluster.local import LocalPool
from search.samplers import History, Problem, _beliefs, make_sampler
from search.samplers._gp import fit, paths
from search.samplers._parts import Ordered
from search.samplers._types import PARTS, STDERR, Array
from search.samplers.auto import auto
from search.samplers.random import random
from search.stopping import Rules
from search.study import observation_of, run_search

from .landscape import Landscape, plan, store_in

LANGUAGES, ITEMS = 5, 60
NONE = np.zeros((0, LANGUAGES))
LOWEST = (1.0,) + (0.0,) * (LANGUAGES - 1)
MINIMA = (("min_language(general)", "max"), ("cvar(safety, 0.6)", "max"))


def rates(x: Array) -> Array:
    """Each number of a point is worth most to one language, and too much of all costs: (n, d) -> (n, languages)."""
    return np.asarray(1.0 / (1.0 + np.exp(1.5 - 4.0 * np.sqrt(x) + 1.5 * x.sum(axis=1, keepdims=True) ** 2 / 2.0)))


def measured(x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Scores of each language and their standard errors."""
    seen = rng.binomial(ITEMS, rates(x)) / ITEMS
    return seen, np.sqrt(seen * (1.0 - seen) / ITEMS)


def history(x: Array, seen: Array, errors: Array) -> History:
    lowest = seen.argmin(axis=1)[:, None]
    value, error = np.take_along_axis(seen, lowest, 1), np.take_along_axis(errors, lowest, 1)
    return History(x, value, error, np.zeros((len(x), 0)), np.arange(len(x)), seen, errors)


def searched(propose: Any, orders: tuple[tuple[float, ...], ...], seed: int, count: int = 20) -> float:
    """The best true minimum over languages that a search scored."""
    problem = Problem(LANGUAGES, ("max",), orders=orders)
    rng = np.random.default_rng(seed)
    x, seen, errors = NONE, NONE, NONE
    for number in range(count):
        point = propose(problem, history(x, seen, errors), NONE, seed, number)[None]
        more = measured(point, rng)
        x, seen, errors = (np.concatenate(pair) for pair in ((x, point), (seen, more[0]), (errors, more[1])))
    return float(rates(x).min(axis=1).max())


def test_the_worst_language_is_found_sooner_by_models_of_each() -> None:
    by_language = [searched(auto, (LOWEST,), seed) for seed in range(3)]
    assert np.mean(by_language) > np.mean([searched(auto, (), seed) for seed in range(3)])
    assert np.mean(by_language) > np.mean([searched(random, (), seed, count=80) for seed in range(3)])


def test_what_is_believed_of_the_worst_is_nearer_the_truth() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((40, LANGUAGES))
    told = history(x, *measured(x, rng))
    error = []
    for orders in ((LOWEST,), ()):
        problem = Problem(LANGUAGES, ("max",), orders=orders)
        models = _beliefs.models(problem, told, x)
        believed = _beliefs.believed(models, _beliefs.draws(problem, models, NONE, rng), x)
        error.append(np.sqrt(np.mean((believed[:, 0] + rates(x).min(axis=1)) ** 2)))
    assert error[0] < 0.8 * error[1]


def test_parts_that_are_not_known_leave_the_objective_to_itself() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((12, LANGUAGES))
    told = history(x, *measured(x, rng))
    told.parts[3] = np.nan
    problem = Problem(LANGUAGES, ("max",), orders=(LOWEST,))
    draws = _beliefs.draws(problem, _beliefs.models(problem, told, x), NONE, rng)
    assert not isinstance(draws[0], Ordered)
    assert (auto(problem, told, NONE, 0, 12) == auto(Problem(LANGUAGES, ("max",)), told, NONE, 0, 12)).all()


@pytest.mark.parametrize("order", [LOWEST, (0.4, 0.4, 0.2, 0.0, 0.0)])
def test_draws_of_an_order_are_those_of_its_parts(order: tuple[float, ...]) -> None:
    rng = np.random.default_rng(1)
    z = rng.random((15, 3))
    values = np.column_stack([-((z - centre) ** 2).sum(axis=1) for centre in rng.random((LANGUAGES, 3))])
    parts = tuple(paths(fit(z, values[:, k], np.full(15, 0.02), common=False), z[:0], 8, rng) for k in range(LANGUAGES))
    whole = Ordered(parts, np.array(order))
    at = rng.random((4, 3))
    by_hand = np.sort([part.at(at) for part in parts], axis=0)
    np.testing.assert_allclose(whole.at(at), np.tensordot(order, by_hand, axes=1))
    np.testing.assert_allclose(whole.values, np.tensordot(order, np.sort([p.values for p in parts], axis=0), axes=1))
    left = rng.normal(size=(4, 8))
    for row in range(4):
        numeric = approx_fprime(at[row], lambda z, row=row: float((left[row] * whole.at(z[None])[0]).sum()), 1e-6)
        np.testing.assert_allclose(whole.tangent(at)[1](left)[row], numeric, rtol=1e-3, atol=1e-4)


def test_an_optuna_study_hands_the_parts_on() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((14, LANGUAGES))
    told = history(x, *measured(x, rng))
    problem = Problem(LANGUAGES, ("max",), orders=(LOWEST,))
    space: dict[str, optuna.distributions.BaseDistribution] = {
        f"x{i}": optuna.distributions.FloatDistribution(0, 1) for i in range(LANGUAGES)
    }
    sampler = make_sampler("auto", dimensions=LANGUAGES, seed=5, problem=problem, space=space)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for row in range(len(x)):
        attrs = {
            STDERR: told.stderr[row].tolist(),
            PARTS: np.column_stack([told.parts[row], told.part_stderr[row]]).tolist(),
        }
        params = dict(zip(space, x[row].tolist(), strict=True))
        study.add_trial(
            optuna.create_trial(params=params, distributions=space, values=told.values[row].tolist(), user_attrs=attrs)
        )
    asked = study.ask(space)
    np.testing.assert_allclose([asked.params[name] for name in space], auto(problem, told, NONE, 5, 14))


def test_a_search_tells_its_sampler_each_language_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    sequences = []
    for folder, limits in ((whole, (12,)), (parts, (5, 9, 12))):
        folder.mkdir()
        for limit in limits:
            store = store_in(folder, owner=f"driver {limit}")
            wanted = plan(folder, objectives=MINIMA, in_flight=1, rules=Rules(candidates=limit))
            run_search(wanted, LocalPool(Landscape()), store)
        sequences.append([point.params for point in store.points()])
    assert sequences[0] == sequences[1]
    told = observation_of(wanted, dict(wanted.unmerged[0][1]))
    assert len(told.parts) == 4, "two languages of each objective"
    assert told.values[0] == min(value for value, _ in told.parts[:2])
