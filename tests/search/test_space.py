from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergers._maths.draw import Draw
from mergers._schema import Method, load_method, method_names
from mergers._spec import Merge
from search.space import from_sticks, space_of, to_sticks

EXPERTS = ("general", "safety")


def experts_of(method: Method) -> tuple[str, ...]:
    """As many of `EXPERTS` as the method takes."""
    return EXPERTS[: method.max_experts or len(EXPERTS)]


@given(st.lists(st.floats(0, 1), min_size=0, max_size=6))
def test_sticks_make_weights_on_the_simplex(sticks: list[float]) -> None:
    weights = from_sticks(sticks)
    assert len(weights) == len(sticks) + 1
    assert all(weight >= -1e-12 for weight in weights)
    assert math.isclose(sum(weights), 1.0, abs_tol=1e-9)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6))
def test_sticks_undo_weights(raw: list[float]) -> None:
    weights = [weight / sum(raw) for weight in raw]
    np.testing.assert_allclose(from_sticks(to_sticks(weights)), weights, atol=1e-9)


def test_uniform_sticks_are_uniform_on_the_simplex() -> None:
    # Dirichlet(1, 1, 1): every weight has mean 1/3 and variance 1/18, and P(weight > 1/2) = 1/4.
    rng = np.random.default_rng(0)
    weights = np.array([from_sticks(row) for row in rng.random((20_000, 2))])
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=0.01)
    np.testing.assert_allclose(weights.var(axis=0), 1 / 18, atol=0.002)
    np.testing.assert_allclose((weights > 0.5).mean(axis=0), 0.25, atol=0.012)


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_space_whose_points_are_valid_merges(name: str) -> None:
    experts = experts_of(load_method(name))
    space = space_of(load_method(name), experts, coefficients="free", seed=3)
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = {d.name: float(rng.uniform(d.low, d.high)) for d in space.dimensions}
        merge = space.decode(values)
        merge.check(len(experts))
        assert merge.seed == 3
    space.decode(space.uniform()).check(len(experts))
    bounds = {d.name: d for d in space.dimensions}
    for _, point in space.corners():
        assert all(bounds[key].low <= value <= bounds[key].high for key, value in point.items())


def applied(method: Method, merge: Merge, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    experts = [tensors[name] for name in experts_of(method)]
    arguments = (tensors["base"], experts) if method.needs_base else (experts,)
    drawn = {"draw": Draw.of(merge.seed, "w")} if method.random else {}
    merged: torch.Tensor = method.function(*arguments, **dict(merge.params), **drawn)
    return merged


HAVE_CORNERS = (
    *("linear", "slerp", "nuslerp", "multislerp", "task_arithmetic"),
    *("ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties"),
)


@pytest.mark.parametrize("name", method_names())
def test_corners_name_the_model_that_they_reproduce(name: str) -> None:
    method = load_method(name)
    space = space_of(method, experts_of(method), coefficients="free", seed=0)
    generator = torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(6, 5, generator=generator, dtype=torch.float64) for key in ("base", *EXPERTS)}
    corners = space.corners()
    if name in HAVE_CORNERS:
        assert {corner for corner, _ in corners} >= set(EXPERTS)
    for corner, point in corners:
        torch.testing.assert_close(applied(method, space.decode(point), tensors), tensors[corner], rtol=0, atol=1e-9)


def test_a_method_that_divides_by_its_weights_is_searched_on_the_simplex() -> None:
    linear = space_of(load_method("linear"), EXPERTS, coefficients="free", seed=0)
    assert linear.coefficients == "simplex"
    assert [d.name for d in linear.dimensions] == ["split.general"]
    arithmetic = space_of(load_method("task_arithmetic"), EXPERTS, coefficients="free", seed=0)
    assert arithmetic.coefficients == "box"
    simplex = space_of(load_method("task_arithmetic"), EXPERTS, coefficients="simplex", seed=0)
    assert sum(dict(simplex.decode({"split.general": 0.123456789}).params)["weight"]) == pytest.approx(1.0, abs=1e-12)  # type: ignore[arg-type]  # weights are a tuple


def test_densities_lie_on_the_grid_that_is_measured_at_once() -> None:
    space = space_of(load_method("ties"), EXPERTS, coefficients="free", seed=0)
    (density,) = (dimension for dimension in space.dimensions if dimension.name == "density")
    assert density.step == 1 / 64
    values = space.uniform() | {"density": 0.4321}
    assert dict(space.decode(values).params)["density"] == 28 / 64
    assert dict(space.decode(values | {"density": 28 / 64}).params)["density"] == 28 / 64
