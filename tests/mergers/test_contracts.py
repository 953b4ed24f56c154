"""What every merge method promises. A new file in mergers/ is under test here without a line added."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mergers._maths.draw import Draw
from mergers._merge import Sources, merge_to_directory
from mergers._schema import TASK_VECTORS, Method, Parameter, load_method, method_names
from mergers._spec import Merge, Value, weights

Inputs = tuple[Tensor, list[Tensor]]
METHODS = [load_method(name) for name in method_names()]
every = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
with_base = pytest.mark.parametrize(
    "method", [method for method in METHODS if method.needs_base], ids=lambda method: method.name
)

ELEMENTWISE = ("linear", "task_arithmetic")
"""Methods that may be given any stretch of a tensor; the others look at a whole tensor (norms, ranks, angles)."""


def count(method: Method) -> int:
    return min(method.max_experts or 3, max(method.min_experts, 3))


def tensors(method: Method, shape: Sequence[int] = (13, 7), dtype: torch.dtype = torch.float32) -> Inputs:
    generator = torch.Generator().manual_seed(11)
    base = torch.randn(shape, generator=generator, dtype=torch.float64)
    experts = [
        (base + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
        for _ in range(count(method))
    ]
    return base.to(dtype), experts


def middle(parameter: Parameter) -> float:
    low, high = parameter.search or (max(parameter.low, 0.0), min(parameter.high, 1.0))
    return (low + high) / 2


def settings(method: Method, experts: int) -> dict[str, Value]:
    """A value inside the search bounds for every searched parameter, different for every expert."""
    chosen: dict[str, Value] = {}
    for parameter in method.parameters:
        if parameter.search is None and not parameter.required:
            continue
        value = middle(parameter)
        spread = [value * (1 + 0.1 * (i - (experts - 1) / 2)) for i in range(experts)]
        chosen[parameter.name] = tuple(spread) if parameter.per_expert else value
    return chosen


def call(
    method: Method,
    inputs: Inputs,
    params: dict[str, Value],
    *,
    seed: int = 0,
    name: str = "w",
    draw: Draw | None = None,
) -> Tensor:
    base, experts = inputs
    extra = {"draw": draw or Draw.of(seed, name)} if method.random else {}
    result: Tensor = method.function(*((base,) if method.needs_base else ()), experts, **params, **extra)
    return result


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (1, 5), (3, 4, 5), (0, 3)])
def test_shape_and_dtype_are_kept_and_numbers_finite(
    method: Method, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    inputs = tensors(method, shape, dtype)
    merged = call(method, inputs, settings(method, len(inputs[1])))
    assert merged.shape == shape
    assert merged.dtype == dtype
    assert torch.isfinite(merged).all()


@every
def test_inputs_are_not_written_to(method: Method) -> None:
    inputs = tensors(method)
    before = [tensor.clone() for tensor in (inputs[0], *inputs[1])]
    merged = call(method, inputs, settings(method, len(inputs[1])))
    merged.zero_()  # nor handed out
    assert all(torch.equal(old, new) for old, new in zip(before, (inputs[0], *inputs[1]), strict=True))


@every
def test_same_arguments_same_bytes(method: Method) -> None:
    inputs = tensors(method)
    params = settings(method, len(inputs[1]))
    first, second = call(method, inputs, params), call(method, inputs, params)
    assert torch.equal(first.view(torch.int32), second.view(torch.int32))


@every
def test_only_random_methods_depend_on_seed_and_name(method: Method) -> None:
    inputs = tensors(method)
    params = settings(method, len(inputs[1]))
    first = call(method, inputs, params)
    for other in (call(method, inputs, params, seed=1), call(method, inputs, params, name="v")):
        assert torch.equal(first, other) is not method.random


@every
def test_equal_inputs_come_back(method: Method) -> None:
    base, experts = tensors(method)
    merged = call(method, (base, [base] * len(experts)), settings(method, len(experts)))
    scale = sum(weights(Merge(method.name, tuple(settings(method, len(experts)).items())), len(experts)))
    if method.needs_base or abs(scale - 1) < 1e-9:
        torch.testing.assert_close(merged, base, rtol=0, atol=1e-6)


@with_base
def test_zero_weights_give_the_base(method: Method) -> None:
    base, experts = tensors(method)
    params = settings(method, len(experts))
    if "weight" not in params:
        pytest.skip("has no weights")
    assert torch.equal(call(method, (base, experts), params | {"weight": 0.0}), base)


@every
def test_one_expert_at_weight_one_is_that_expert(method: Method) -> None:
    base, experts = tensors(method)
    if method.min_experts > 1 or "weight" not in settings(method, 1):
        pytest.skip("merges more experts, or has no weights")
    params: dict[str, Value] = {"weight": 1.0}
    merged = call(method, (base, experts[:1]), params)
    # A delta is rounded when it is taken and when it is added: within two units in the last place of values near 4.
    torch.testing.assert_close(merged, experts[0], rtol=0, atol=1e-6)


@every
def test_order_of_experts_with_their_parameters_does_not_matter(method: Method) -> None:
    base, experts = tensors(method)
    params = settings(method, len(experts))
    if method.random:
        pytest.skip("masks belong to an expert's position, as the method's documentation says")
    shared = any(parameter.required and not parameter.per_expert for parameter in method.parameters)
    if shared:
        pytest.skip("a shared parameter names an expert by position (slerp: t counts from the first)")
    merged = call(method, (base, experts), params)
    for order in permutations(range(len(experts))):
        moved = {
            key: tuple(value[i] for i in order) if isinstance(value, tuple) else value for key, value in params.items()
        }
        again = call(method, (base, [experts[i] for i in order]), moved)
        torch.testing.assert_close(again, merged, rtol=0, atol=1e-6)


def test_random_methods_say_that_order_matters() -> None:
    for method in METHODS:
        if method.random:
            assert "order of the experts" in (inspect.getdoc(method.function) or "")


@every
def test_chunks_equal_the_whole_where_the_method_is_elementwise(method: Method) -> None:
    if method.name not in ELEMENTWISE:
        pytest.skip("looks at the whole tensor")
    base, experts = tensors(method, (64, 9))
    params = settings(method, len(experts))
    whole = call(method, (base, experts), params)
    parts = [call(method, (base[i : i + 10], [x[i : i + 10] for x in experts]), params) for i in range(0, 64, 10)]
    assert torch.equal(torch.cat(parts), whole)


@every
def test_float32_is_near_float64(method: Method) -> None:
    inputs = tensors(method, (50, 20))
    params = settings(method, len(inputs[1]))
    wide = (inputs[0].double(), [tensor.double() for tensor in inputs[1]])
    torch.testing.assert_close(call(method, inputs, params).double(), call(method, wide, params), rtol=0, atol=5e-6)


@every
def test_any_sharding_same_bytes(method: Method, bfloat16_models: Path, tmp_path: Path) -> None:
    experts = [str(bfloat16_models / name) for name in ("one", "two", "three")][: count(method)]
    merge = Merge(method.name, tuple(settings(method, len(experts)).items()), 3)
    as_it_is = Merge("linear", (("weight", 1.0),))
    pieces = []
    for name in ("base", "one", "two", "three"):
        source = str(bfloat16_models / name)
        merge_to_directory(as_it_is, Sources(source, (source,)), tmp_path / name, dtype="bfloat16", shard_bytes=3000)
        pieces.append(name)
    sharded = [str(tmp_path / Path(expert).name) for expert in experts]
    merge_to_directory(merge, Sources(str(bfloat16_models / "base"), tuple(experts)), tmp_path / "a", dtype="float32")
    merge_to_directory(merge, Sources(str(tmp_path / "base"), tuple(sharded)), tmp_path / "b", dtype="float32")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@every
def test_a_method_is_documented_and_listed(method: Method) -> None:
    function: Callable[..., Tensor] = method.function
    assert function.__name__ == method.name
    assert inspect.getdoc(inspect.getmodule(function))
    for parameter in method.parameters:
        documented = parameter is TASK_VECTORS or f"{parameter.name}:" in (inspect.getdoc(function) or "")
        assert documented, parameter.name
        assert parameter.low <= parameter.high
        if parameter.search is not None:
            assert parameter.low <= parameter.search[0] < parameter.search[1] <= parameter.high
    Merge(method.name, tuple(settings(method, count(method)).items())).check(count(method))
