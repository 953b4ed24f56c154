from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.samplers import NAMES, History, Problem, load_sampler, make_sampler
from search.samplers._optuna import from_unit, to_unit
from search.samplers._types import STDERR

SPACE: dict[str, BaseDistribution] = {
    "weight": FloatDistribution(-0.5, 1.5),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "rank": IntDistribution(1, 8),
    "method": CategoricalDistribution(["linear", "slerp", "ties"]),
}
PLAIN: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in "abc"}
PURE = ("auto", "cmaes", "map", "qmc", "random")
QUICK = tuple(name for name in NAMES if name != "gp")  # Optuna's GP takes seconds a point


def study_of(name: str, space: dict[str, BaseDistribution], seed: int = 3) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = make_sampler(name, dimensions=len(space), seed=seed, space=space)
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def step(study: optuna.Study, space: dict[str, BaseDistribution]) -> dict[str, float]:
    trial = study.ask(space)
    x = [to_unit(trial.params[name], distribution) for name, distribution in space.items()]
    trial.set_constraint("keep", x[0] - 0.9)
    trial.set_user_attr(STDERR, [0.01, 0.01])
    study.tell(trial, [x[0] - x[1] ** 2, x[0] ** 2 + abs(x[2] - 0.3)])
    return dict(trial.params)


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_answers_with_points_of_the_space(name: str) -> None:
    study = study_of(name, SPACE)
    for _ in range(13 if name == "gp" else 20):  # past every random start
        params = step(study, SPACE)
        assert params.keys() == SPACE.keys()
        for key, distribution in SPACE.items():
            assert distribution._contains(distribution.to_internal_repr(params[key]))


@pytest.mark.parametrize("name", QUICK)
def test_a_rebuilt_study_goes_on_as_if_it_had_not_stopped(name: str) -> None:
    whole = study_of(name, PLAIN)
    expected = [step(whole, PLAIN) for _ in range(26)]
    rebuilt = study_of(name, PLAIN)
    for trial in whole.trials[:18]:
        rebuilt.add_trial(
            optuna.create_trial(
                params=trial.params,
                distributions=PLAIN,
                values=trial.values,
                constraints=trial.constraints,
                user_attrs=trial.user_attrs,
            )
        )
    assert [step(rebuilt, PLAIN) for _ in range(8)] == expected[18:]


@pytest.mark.parametrize("name", PURE)
def test_a_pure_sampler_answers_the_same_question_alike_and_another_seed_differently(name: str) -> None:
    problem, history = _bowls(12)
    propose = load_sampler(name)
    none = np.zeros((0, 3))
    first = propose(problem, history, none, 1, 12)
    assert np.array_equal(first, propose(problem, history, none, 1, 12))
    assert not np.array_equal(first, propose(problem, history, none, 2, 12))


@pytest.mark.parametrize("name", PURE)
def test_starts_come_first_in_order_and_are_not_asked_again(name: str) -> None:
    starts = ((0.0, 1.0, 0.5), (1.0, 0.0, 0.5), (0.5, 0.5, 0.5))
    problem = Problem(3, ("max", "min"), starts=starts)
    empty = History(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 0)), np.zeros(0, dtype=np.int64))
    propose = load_sampler(name)
    assert tuple(propose(problem, empty, np.zeros((0, 3)), 0, 0)) == starts[0]
    assert tuple(propose(problem, empty, np.array(starts[:1]), 0, 1)) == starts[1]
    assert tuple(propose(problem, empty, np.array(starts), 0, 3)) not in starts


@pytest.mark.parametrize(("low", "high", "log"), [(-2.0, 3.0, False), (1e-6, 1e3, True)])
def test_floats_travel_to_the_unit_cube_and_back(low: float, high: float, log: bool) -> None:
    distribution = FloatDistribution(low, high, log=log)
    for unit in (0.0, 0.1, 0.5, 1.0):
        value = from_unit(unit, distribution)
        assert low <= value <= high
        assert math.isclose(to_unit(value, distribution), unit, abs_tol=1e-12)


def test_integers_and_choices_get_equal_shares_of_the_cube() -> None:
    units = (np.arange(1200) + 0.5) / 1200
    for distribution, values in (
        (IntDistribution(2, 10, step=4), (2, 6, 10)),
        (CategoricalDistribution(["a", "b", "c"]), ("a", "b", "c")),
    ):
        drawn = [from_unit(float(unit), distribution) for unit in units]
        assert [drawn.count(value) for value in values] == [400, 400, 400]
        assert all(from_unit(to_unit(value, distribution), distribution) == value for value in values)


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"no sampler 'autoo'; there are auto, cmaes, .*package.module:function"):
        make_sampler("autoo", dimensions=2, seed=0)
    with pytest.raises(ValueError, match=r"no sampler 'nowhere\.at:all'"):
        make_sampler("nowhere.at:all", dimensions=2, seed=0)


def my_own(problem: Problem, history: History, pending: np.ndarray, seed: int, number: int) -> np.ndarray:
    return np.full(problem.dimensions, (1 + number) / 100)


def test_a_sampler_of_ones_own_is_a_function_elsewhere() -> None:
    study = study_of(f"{__name__}:my_own", PLAIN)
    assert [step(study, PLAIN)["b"] for _ in range(3)] == [0.01, 0.02, 0.03]


def _bowls(count: int) -> tuple[Problem, History]:
    rng = np.random.default_rng(5)
    x = rng.random((count, 3))
    values = np.column_stack([-((x - 0.3) ** 2).sum(axis=1), ((x - 0.7) ** 2).sum(axis=1)])
    errors = np.full((count, 2), 0.01)
    return Problem(3, ("max", "min")), History(x, values, errors, np.zeros((count, 0)), np.arange(count))
