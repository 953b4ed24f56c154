"""What every method's plan promises: the reference's numbers, in any stored type, for any number of threads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mergers._execution.execute import execute
from mergers._execution.statistics import Inputs, Memory
from mergers._maths.draw import Draw
from mergers._schema import Method
from mergers._spec import Value, resolved
from tests.mergers.test_contracts import METHODS, call, settings, tensors

SHAPES = ((), (1,), (7,), (5, 1), (1, 5), (33, 17), (3, 4, 5), (400, 700))
planned = pytest.mark.parametrize(
    "method", [method for method in METHODS if method.plan is not None], ids=lambda method: method.name
)
DRAW = Draw.of(3, "model.layers.0.mlp.up_proj.weight")


def run(
    method: Method,
    base: Tensor,
    experts: Sequence[Tensor],
    params: dict[str, Value],
    *,
    dtype: torch.dtype = torch.float32,
    memory: Memory | None = None,
    threads: int = 1,
    with_base: bool | None = None,
) -> Tensor:
    used = method.needs_base if with_base is None else with_base
    inputs = Inputs(base.reshape(-1) if used else None, tuple(x.reshape(-1) for x in experts), tuple(base.shape))
    out = torch.full(base.shape, 7.0, dtype=dtype)
    given = resolved(method, len(experts), params)  # type: ignore[arg-type]  # plain values here
    execute(method, given, DRAW, inputs, out, memory or Memory(tables=False), threads)
    return out


@planned
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_plan_is_the_reference(method: Method, shape: tuple[int, ...]) -> None:
    base, experts = tensors(method, shape)
    params = settings(method, len(experts))
    wanted = call(method, (base, experts), params, draw=DRAW)
    torch.testing.assert_close(run(method, base, experts, params), wanted, rtol=0, atol=2e-6)


@planned
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_rounded_once(method: Method, dtype: torch.dtype) -> None:
    base, experts = tensors(method, (120, 90))
    base, experts = base.to(dtype), [x.to(dtype) for x in experts]
    params = settings(method, len(experts))
    if _has(method, "weight"):  # no simple fractions: sums of halves would fall exactly between two halves
        params["weight"] = tuple(0.4317 + 0.0791 * i**1.3 for i in range(len(experts)))
    wanted = call(method, (base.float(), [x.float() for x in experts]), params, draw=DRAW).to(dtype)
    ours = run(method, base, experts, params, dtype=dtype)
    # float32 sums in another order may fall on the other side of a rounding: a unit in the last place, now and then.
    steps = (ours.view(torch.int16).int() - wanted.view(torch.int16).int()).abs()
    steps[(ours.float() - wanted.float()).abs() < 1e-6] = 0  # units near zero are smaller than the sums' rounding
    assert int(steps.max()) <= 1
    assert float((steps > 0).float().mean()) < 2e-3


@planned
def test_neither_threads_nor_tables_change_a_byte(method: Method) -> None:
    base, experts = tensors(method, (700, 500))
    base, experts = base.bfloat16(), [x.bfloat16() for x in experts]
    params = settings(method, len(experts))
    first = run(method, base, experts, params)
    for threads in (2, 3):
        assert torch.equal(first, run(method, base, experts, params, threads=threads))
    assert torch.equal(first, run(method, base, experts, params, memory=Memory(tables=True)))


@planned
def test_what_is_remembered_serves_other_candidates(method: Method) -> None:
    base, experts = tensors(method, (90, 80))
    memory = Memory(tables=True)
    for turn in range(4):
        params = settings(method, len(experts)) | ({"density": 0.25 + 0.125 * turn} if _has(method, "density") else {})
        params |= {"weight": 0.3 + 0.1 * turn} if _has(method, "weight") else {}
        assert torch.equal(run(method, base, experts, params, memory=memory), run(method, base, experts, params))


@planned
def test_an_optional_base_is_used(method: Method) -> None:
    if not method.optional_base:
        pytest.skip("always or never has a base")
    base, experts = tensors(method, (40, 30))
    params = settings(method, len(experts))
    with_base = run(method, base, experts, params, with_base=True)
    wanted = method.function(experts, base=base, **params)
    torch.testing.assert_close(with_base, wanted, rtol=0, atol=2e-6)
    assert not torch.allclose(with_base, run(method, base, experts, params))


def _has(method: Method, name: str) -> bool:
    return any(parameter.name == name for parameter in method.parameters)
