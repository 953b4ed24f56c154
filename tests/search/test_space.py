from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergers._maths.draw import Draw
from mergers._schema import Method, load_method, method_names
from mergers._settings import Gradient
from mergers._spec import Merge
from mergers._types import Numbers, PerExpert, Range, per_expert
from search._space.grid import Grid, factors
from search._space.groups import by_depth, by_kind
from search._space.sticks import decimal_weights
from search.space import WHOLE, Groups, Space, from_sticks, space_of, to_sticks

EXPERTS = ("general", "safety")
NAMES = (
    "model.embed_tokens.weight",
    *(f"model.layers.{n}.{part}.weight" for n in range(4) for part in ("self_attn.q", "mlp.up", "input_layernorm")),
    "model.norm.weight",
)
GROUPINGS = {"whole": WHOLE, "depth": by_depth(NAMES, (0, 1, 3)), "kind": by_kind(NAMES, ("attention", "mlp"))}
TWO_BY_SIX = Grid(
    ("general", "safety"), ("en", "hi", "ar", "fr", "es", "ru"), tuple((o, f) for f in range(6) for o in range(2))
)
TWELVE = tuple(f"{TWO_BY_SIX.objectives[o]}-{TWO_BY_SIX.languages[f]}" for o, f in TWO_BY_SIX.cells)
EDGES = st.sampled_from([0.0, 1.0, 1e-12, 1e-6, 1.0 - 1e-6, 1.0 - 1e-12, 0.5])


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


def spaces(name: str, coefficients: str, groups: Groups = WHOLE) -> Space:
    method = load_method(name)
    experts = TWELVE if coefficients == "factorized" else TWELVE[: min(5, method.max_experts or 5)]
    grid = TWO_BY_SIX if coefficients == "factorized" else None
    return space_of(method, experts, coefficients=coefficients, seed=4, groups=groups, grid=grid)


def point(space: Space, numbers: list[float]) -> dict[str, float]:
    return {d.name: d.low + u * (d.high - d.low) for d, u in zip(space.dimensions, numbers, strict=True)}


MANY = tuple(name for name in method_names() if load_method(name).max_experts is None)


@pytest.mark.parametrize("grouped", GROUPINGS)
@pytest.mark.parametrize(
    ("name", "coefficients"),
    [(name, kind) for name in method_names() for kind in ("free", "simplex")] + [(name, "factorized") for name in MANY],
)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_encode_and_decode_round_trip_exactly(name: str, coefficients: str, grouped: str, data: st.DataObject) -> None:
    space = spaces(name, coefficients, GROUPINGS[grouped])
    numbers = st.one_of(st.floats(0, 1), EDGES)
    count = len(space.dimensions)
    merge = space.decode(point(space, data.draw(st.lists(numbers, min_size=count, max_size=count))))
    merge.check(len(space.experts))
    values = space.encode(merge)
    assert list(values) == [dimension.name for dimension in space.dimensions]
    assert space.decode(values) == merge
    assert space.encode(space.decode(values)) == values


@given(st.lists(st.one_of(st.floats(0, 1), EDGES), min_size=11, max_size=11))
def test_twelve_decimal_weights_are_found_again(sticks: list[float]) -> None:
    weights = decimal_weights(sticks)
    assert math.isclose(math.fsum(weights), 1.0, abs_tol=1e-12)
    assert decimal_weights(to_sticks(weights)) == weights


@pytest.mark.parametrize(
    ("merge", "says"),
    [
        (Merge("linear", (("weight", (0.5, 0.5)),)), "the merge is by linear with seed 0, this space is of ties"),
        (
            Merge("ties", (("weight", (0.5, 0.5)), ("density", 0.5)), 1),
            "the merge is by ties with seed 1, this space is of ties with seed 0",
        ),
        (Merge("ties", (("weight", (0.5, 0.5)), ("density", 0.51))), "not a point of this space"),
        (Merge("ties", (("weight", (0.5, 0.5)), ("density", 0.5), ("lambda_", 2.0))), "not a point of this space"),
        (Merge("ties", (("weight", (0.5, 0.5)), ("density", 0.03125))), r"density is 0.03125, out of \[0.09375, 1\]"),
        (Merge("ties", (("weight", 0.5), ("density", 0.5))), "needs one weight for each of general, safety"),
        (Merge("ties", (("weight", (0.5, 0.5)),)), "ties needs one density"),
        (Merge("ties", (("weight", (0.4, 0.5)), ("density", 0.5))), "not a point of this space"),
        (
            Merge("ties", (("weight", (Gradient((0.5, 0.4)), 0.5)), ("density", 0.5))),
            "varies along the model in another way than model",
        ),
    ],
)
def test_a_merge_of_another_space_is_refused(merge: Merge, says: str) -> None:
    space = space_of(load_method("ties"), EXPERTS, coefficients="free", seed=0)
    with pytest.raises(ValueError, match=says):
        space.encode(merge)


def test_twelve_experts_on_a_grid_need_seven_numbers_and_six_on_the_simplex() -> None:
    box, simplex = spaces("task_arithmetic", "factorized"), spaces("linear", "factorized")
    assert [d.name for d in box.dimensions] == [
        *("weight.objective.general", "weight.objective.safety"),
        *(f"split.language.{language}" for language in TWO_BY_SIX.languages[:-1]),
    ]
    assert (len(simplex.dimensions), box.sticks, simplex.sticks) == (6, ((2, 7),), ((0, 1), (1, 6)))
    grouped = spaces("ties", "factorized", GROUPINGS["depth"])
    assert (len(grouped.dimensions), len(grouped.sticks)) == (3 * 6 + 1, 6)


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_factorized_weights_are_products(numbers: list[float]) -> None:
    space = spaces("task_arithmetic", "factorized")
    weight = dict(space.decode(point(space, numbers)).params)["weight"]
    assert isinstance(weight, tuple)
    matrix = np.array(TWO_BY_SIX.rows([float(str(number)) for number in weight]), dtype=np.float64)
    assert np.linalg.matrix_rank(matrix, tol=1e-9) <= 1
    lengths = np.linalg.norm(matrix, axis=1)
    bounds = [dimension.high for dimension in space.dimensions[:2]]
    np.testing.assert_allclose(lengths, np.array(numbers[:2]) * bounds, atol=1e-6)
    assert bounds == pytest.approx([1.2 * 6**0.5] * 2, abs=1e-6)  # all six languages at 1.2


def test_every_product_in_the_box_of_the_experts_is_in_the_space() -> None:
    space = spaces("task_arithmetic", "factorized")
    rng = np.random.default_rng(0)
    for _ in range(50):
        language = rng.random(6) * rng.integers(0, 2, 6)
        matrix = 1.2 * np.outer(rng.random(2), language / max(1e-9, language.max()))
        objective = np.linalg.norm(matrix, axis=1)
        assert (objective <= space.dimensions[0].high + 1e-9).all()
        shares = (language / language.sum() if language.any() else np.full(6, 1 / 6)).tolist()
        np.testing.assert_allclose(np.outer(objective, np.array(factors(shares))), matrix, atol=1e-12)


@pytest.mark.parametrize("grouped", GROUPINGS)
@pytest.mark.parametrize("name", ["linear", "task_arithmetic", "ties", "dare_linear", "multislerp"])
def test_corners_of_factorized_spaces_are_the_experts(name: str, grouped: str) -> None:
    space = spaces(name, "factorized", GROUPINGS[grouped])
    corners = dict(space.corners())
    assert set(corners) >= set(TWELVE)
    for expert, found in corners.items():
        assert dict(space.decode(found).params)["weight"] == tuple(float(one == expert) for one in TWELVE)
    uniform = dict(space.decode(space.uniform()).params)["weight"]
    assert uniform == pytest.approx([1 / 12] * 12, abs=2e-6)


def test_a_method_without_weights_has_its_parameters_for_each_group() -> None:
    groups = GROUPINGS["depth"]
    slerp = space_of(load_method("slerp"), EXPERTS, coefficients="free", seed=0, groups=groups)
    assert [d.name for d in slerp.dimensions] == ["t@layers0-0", "t@layers1-2", "t@layers3-3"]
    ties = space_of(load_method("ties"), EXPERTS, coefficients="free", seed=0, groups=groups)
    assert [d.name for d in ties.dimensions] == [*(f"split.general@{group}" for group in groups.names), "density"]
    assert ties.sticks == ((0, 1), (1, 2), (2, 3))


def test_a_parameter_that_changes_nothing_is_no_dimension() -> None:
    outside = "tests.search.test_space:without_density"
    assert [d.name for d in space_of(load_method(outside), EXPERTS, coefficients="free", seed=0).dimensions] == [
        "weight.general",
        "weight.safety",
    ]


def without_density(
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(0.0, 2.0, (0.0, 1.0))],
    density: Annotated[float, Range(0.0, 1.0, (0.1, 1.0))] = 1.0,
) -> torch.Tensor:
    weights = per_expert(weight, len(experts))
    return base + sum((w * (x - base) for w, x in zip(weights, experts, strict=True)), torch.zeros_like(base))
