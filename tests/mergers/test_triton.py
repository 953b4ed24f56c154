"""The Triton kernels against `blocks`, bit by bit: compiled on a GPU, else under Triton's interpreter on the CPU.

The interpreter runs a kernel's operations in numpy. It differs from the machine in one thing that shows here: it rounds
float32 to bfloat16 towards zero, where GPUs (and compiled code, see the last test) round to nearest.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers._execution.kernels import blocks
from mergers._execution.kernels import triton as kernels
from mergers._plan import NOTHING_YET, Band, Everything, Mask, Nothing, Random, Rank, Ranked, Sparse, Weighted

pytest.importorskip("triton", reason="Triton is not installed (it comes with torch's CUDA builds)")

DEVICE = "cuda" if kernels.available("cuda") else "cpu"
if DEVICE == "cpu":
    # Whether a kernel is interpreted is decided where it is defined; no other kernel of this process shall be.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        from mergers._execution.kernels import _triton_kernels  # noqa: F401  # for its definitions

SIZE = 2500  # three programs, the last of them not full
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MASKS: tuple[Mask, ...] = (
    Everything(),
    Nothing(),
    Band(NOTHING_YET, Rank(0.5, 1200)),
    Band(Rank(1.5, 5), Rank(0.25, 2400)),
    Random(1, "a", 0, 30000),
    Random(1, "a", 1, 60000),
    Random(1, "a", 3, 100),
    Random(2, "a", 1, 65535),
    Ranked(1, "a", 1, 0.2, 0.8),
)
DIVISIONS: tuple[Literal["no", "weights", "count"], ...] = ("no", "weights", "count")
NUMBERS = st.sampled_from((0.37, -0.21, 1.0, 1.3, 0.0))


def tensors(count: int, seed: int, *, coarse: bool) -> list[Tensor]:
    """Base first, of mixed types; differences of coarse ones tie and cancel."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, SIZE, generator=generator)
    drawn = (drawn * 4).round() / 4 if coarse else drawn
    return [row.to(DEVICE, DTYPES[(seed + i) % 3]) for i, row in enumerate(drawn)]


def expected(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """Float32 results in `dtype`, rounded as the device under test does."""
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        return (exact.view(torch.int32) & -65536).view(torch.float32).bfloat16()
    return exact.to(dtype)


def assert_same(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, rtol=0, atol=0, equal_nan=True)


@st.composite
def plans(draw: st.DrawFn) -> Sparse:
    masks = draw(st.lists(st.sampled_from(MASKS), min_size=1, max_size=5))
    numbers = st.tuples(*(NUMBERS,) * len(masks))
    consensus = draw(st.booleans())
    divide = draw(st.sampled_from(DIVISIONS)) if consensus else "no"
    return Sparse(tuple(masks), draw(numbers), draw(numbers), consensus, draw(st.booleans()), divide, draw(NUMBERS))


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 1000), st.booleans(), st.sampled_from(DTYPES))
def test_sparse_merges_have_the_bytes_of_the_reference(
    plan: Sparse, seed: int, coarse: bool, dtype: torch.dtype
) -> None:
    base, *experts = tensors(len(plan.masks) + 1, seed, coarse=coarse)
    key = (torch.arange(SIZE, device=DEVICE) % 3 == 0).to(torch.uint8) * 255
    keys = [key if isinstance(mask, Ranked) else None for mask in plan.masks]
    exact, out = torch.empty(SIZE, device=DEVICE), torch.empty(SIZE, device=DEVICE, dtype=dtype)
    broken = kernels.sparse(base, experts, plan, out, keys)
    assert blocks.sparse(base, experts, plan, exact, keys=keys) == int(broken) == 0
    assert_same(out, expected(exact, dtype))


@settings(max_examples=20, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=9), NUMBERS, st.integers(0, 1000), st.sampled_from(DTYPES))
def test_weighted_sums_have_the_bytes_of_the_reference(
    coefficients: list[float], share: float, seed: int, dtype: torch.dtype
) -> None:
    base, *experts = tensors(len(coefficients) + 1, seed, coarse=False)
    plan = Weighted(share, tuple(coefficients))
    exact, out = torch.empty(SIZE, device=DEVICE), torch.empty(SIZE, device=DEVICE, dtype=dtype)
    assert int(kernels.weighted(base if share else None, experts, plan, out)) == 0
    blocks.weighted(base, experts, plan, exact)
    assert_same(out, expected(exact, dtype))


@pytest.mark.parametrize("size", [0, 1, 16, 1024, 1025])
def test_any_size_and_alignment(size: int) -> None:
    whole = torch.randn(size + 1, generator=torch.Generator().manual_seed(size)).to(DEVICE)
    out = torch.full((size + 2,), 9.0, device=DEVICE)
    plan = Sparse((Random(1, "a", 0, 30000),), (1.0,), (0.5,), consensus=True, divide="weights")
    assert int(kernels.sparse(torch.zeros_like(whole)[1:], [whole[1:]], plan, out[1:-1])) == 0
    wanted = torch.empty(size, device=DEVICE)
    blocks.sparse(torch.zeros_like(whole)[1:], [whole[1:]], plan, wanted)
    assert_same(out[1:-1], wanted)
    assert out[0] == out[-1] == 9.0


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # the interpreter rounds in numpy
def test_what_is_not_finite_once_rounded_is_counted() -> None:
    inputs = torch.ones(SIZE, device=DEVICE)
    inputs[[0, 3, 1023, 1024, SIZE - 1]] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e6, -1e6], device=DEVICE)
    for dtype, broken in ((torch.float32, 3), (torch.bfloat16, 3), (torch.float16, 5)):
        out = torch.empty(SIZE, device=DEVICE, dtype=dtype)
        assert int(kernels.weighted(None, [inputs], Weighted(0.0, (1.0,)), out)) == broken


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter adds in numpy
@pytest.mark.parametrize("consensus", [True, False])
def test_what_is_not_finite_is_so_in_the_merge(consensus: bool) -> None:
    base, one, two = (torch.zeros(SIZE, device=DEVICE) for _ in range(3))
    one[[1, 2, 3]] = torch.tensor([torch.nan, torch.inf, torch.inf], device=DEVICE)
    two[3] = -torch.inf
    plan = Sparse((Everything(),) * 2, (1.0,) * 2, (1.0,) * 2, consensus)
    out, wanted = torch.empty_like(base), torch.empty_like(base)
    assert int(kernels.sparse(base, [one, two], plan, out)) == blocks.sparse(base, [one, two], plan, wanted) == 3
    assert_same(out, wanted)


@pytest.mark.parametrize("weighted_election", [True, False])
def test_votes_that_cancel_elect_plus(weighted_election: bool) -> None:
    base, one = torch.zeros(SIZE, device=DEVICE), torch.ones(SIZE, device=DEVICE)
    plan = Sparse((Everything(),) * 2, (1.0,) * 2, (1.0,) * 2, consensus=True, weighted_election=weighted_election)
    out = torch.empty_like(base)
    kernels.sparse(base, [-one, one], plan, out)
    assert_same(out, one)


def test_entries_from_2_to_the_32_on_have_keys_and_positions_of_their_own() -> None:
    origin = 1 << 32
    base, one, two = (tensor.float() for tensor in tensors(3, 4, coarse=True))
    masks: tuple[Mask, ...] = (Random(1, "a", 1, 30000), Band(Rank(1.0, origin + 300), Rank(0.5, origin + 1500)))
    plan = Sparse(masks, (1.0, 1.0), (1.0, 1.0), consensus=False)
    out, broken = torch.empty_like(base), torch.zeros(1, dtype=torch.int64, device=DEVICE)
    kernels._sparse_window(base, (one, two), plan, out, (None, None), broken, origin)
    kept = [blocks.kept(mask, x - base, origin) for mask, x in zip(masks, (one, two), strict=True)]
    wanted = base + (torch.where(kept[0], one - base, 0.0) + torch.where(kept[1], two - base, 0.0))
    assert_same(out, wanted)
    assert not torch.equal(kept[0], blocks.kept(masks[0], one - base, 0))


def test_only_devices_that_triton_compiles_for_have_kernels() -> None:
    assert not kernels.available("cpu")
    assert not kernels.available("meta")


@pytest.mark.parametrize("capability", [80, 90])
def test_compiled_code_rounds_each_operation_and_loads_wide(capability: int) -> None:
    # In a process of its own, where kernels are not interpreted. Needs no GPU.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.mergers.compiled_kernels", str(capability)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    weighted, sparse = json.loads(run.stdout)
    for code, loads, divisions in ((weighted, 3, 0), (sparse, 4, 8)):
        assert not re.search(r"\bfma\.", code)
        assert len(re.findall(r"\bdiv\.rn\.", code)) == len(re.findall(r"\bdiv\.", code)) == divisions
        assert not re.search(r"\b(mul|add|sub)\.\S*ftz", code)
        assert len(re.findall(r"ld\.global\.v4\.b32", code)) == loads
        assert re.search(r"cvt\.rn\.bf16", code)
