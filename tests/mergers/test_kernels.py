"""The fused CPU kernels give, bit by bit, what their definition in plain torch gives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers._execution.kernels import cpu
from mergers._plan import NOTHING_YET, Band, Everything, Mask, Nothing, Random, Rank, Ranked, Sparse, Weighted
from tests.oracles import kernels as oracle

TYPES = (torch.float32, torch.bfloat16, torch.float16)
SIZES = st.sampled_from((0, 1, 63, 64, 65, 511, 512, 4095, 4096, 4097, 65535, 65536, 65537)) | st.integers(0, 300)
NUMBERS = st.floats(-2, 2, width=32)

quick = settings(max_examples=60, deadline=None)


def tensor(size: int, dtype: torch.dtype, seed: int, *, coarse: bool) -> Tensor:
    """Numbers around 0; `coarse` ones lie on a grid of steps that all types hold, so that differences tie."""
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return (values * 8).round().div(64).to(dtype) if coarse else values.mul(0.1).to(dtype)


@st.composite
def inputs(draw: st.DrawFn, sizes: st.SearchStrategy[int] = SIZES) -> tuple[Tensor, list[Tensor], torch.dtype]:
    """Base, experts, type of the output."""
    size, seed, coarse = draw(sizes), draw(st.integers(0, 999)), draw(st.booleans())
    types = draw(st.lists(st.sampled_from(TYPES), min_size=2, max_size=13))
    base, *experts = (tensor(size, dtype, seed * 16 + i, coarse=coarse) for i, dtype in enumerate(types))
    return base, experts, draw(st.sampled_from(TYPES))


RANKS = st.just(NOTHING_YET) | st.builds(
    Rank, st.sampled_from((0.0, 0.015625, 0.03125, 0.0625, 0.1, 0.125)), st.integers(-1, 70000) | st.integers(-1, 300)
)
RANDOMS = st.builds(Random, st.just(3), st.sampled_from(("a", "b")), st.integers(0, 5), st.integers(1, 65535))
MASKS: st.SearchStrategy[Mask] = st.one_of(
    st.just(Everything()),
    st.just(Nothing()),
    st.builds(Band, RANKS, RANKS),
    RANDOMS,
    st.builds(lambda j: Ranked(3, "a", 0, j / 64 - 0.1, j / 64 + 0.1), st.integers(7, 57)),
)


@st.composite
def sparse_plans(draw: st.DrawFn, experts: int) -> Sparse:
    consensus = draw(st.booleans())
    several = st.lists(NUMBERS, min_size=experts, max_size=experts).map(tuple)
    return Sparse(
        masks=tuple(draw(st.lists(MASKS, min_size=experts, max_size=experts))),
        scales=tuple(draw(st.lists(st.floats(1, 3, width=32), min_size=experts, max_size=experts))),
        weights=draw(several),
        consensus=consensus,
        weighted_election=not consensus or draw(st.booleans()),
        divide=draw(st.sampled_from(("no", "weights", "count"))) if consensus else "no",
        lambda_=draw(NUMBERS),
    )


def keys_for(experts: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 80, x.shape, generator=generator, dtype=torch.uint8) for x in experts]


def raws(tensors: Sequence[Tensor]) -> list[cpu.Raw]:
    return [cpu.raw(x) for x in tensors]


@quick
@given(data=st.data(), case=inputs())
def test_a_weighted_sum_is_that_of_its_terms_in_order(
    data: st.DataObject, case: tuple[Tensor, list[Tensor], torch.dtype]
) -> None:
    base, experts, dtype = case
    plan = Weighted(data.draw(NUMBERS), tuple(data.draw(NUMBERS) for _ in experts))
    out = torch.full(base.shape, 7.0, dtype=dtype)
    bad = cpu.weighted(cpu.raw(base), raws(experts), plan, cpu.raw(out), 0, len(base))
    assert bad == 0
    assert torch.equal(out, oracle.weighted(base, experts, plan).to(dtype))


@quick
@given(data=st.data(), case=inputs())
def test_a_sparse_merge_is_its_definition(data: st.DataObject, case: tuple[Tensor, list[Tensor], torch.dtype]) -> None:
    base, experts, dtype = case
    plan = data.draw(sparse_plans(len(experts)))
    keys = keys_for(experts)
    out = torch.full(base.shape, 7.0, dtype=dtype)
    wanted = oracle.sparse(base, experts, plan, keys).to(dtype)
    bad = cpu.sparse(cpu.raw(base), raws(experts), plan, cpu.raw(out), 0, len(base), raws(keys))
    assert torch.equal(out, wanted)
    assert bad == int((~wanted.isfinite()).sum())


@quick
@given(
    size=st.sampled_from((1, 63, 64, 65, 128, 4095, 4096, 4097)) | st.integers(1, 400),
    seed=st.integers(0, 999),
    shares=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_a_band_keeps_a_stretch_of_the_order_to_the_entry(
    size: int, seed: int, shares: list[tuple[float, float]]
) -> None:
    base, expert = (tensor(size, torch.float32, 2 * seed + i, coarse=True) for i in range(2))
    delta = expert - base
    order = oracle.order(delta)

    def end(count: int) -> Rank:
        return Rank(float(delta[order[count - 1]].abs()), int(order[count - 1])) if count else NOTHING_YET

    counts = [sorted((round(low * size), round(high * size))) for low, high in shares]
    for low, high in counts:
        wanted = base.clone()
        wanted[order[low:high]] = expert[order[low:high]]
        plan = Sparse((Band(end(low), end(high)),), (1.0,), (1.0,), consensus=False)
        out = torch.empty(size)
        cpu.sparse(cpu.raw(base), [cpu.raw(expert)], plan, cpu.raw(out), 0, size)
        assert torch.equal(out, wanted)
    several = Sparse(
        tuple(Band(end(low), end(high)) for low, high in counts),
        (1.0,) * len(counts),
        (1.0,) * len(counts),
        consensus=False,
    )
    wanted = base + sum(
        torch.zeros(size).index_put_((torch.from_numpy(order[a:b]),), delta[order[a:b]]) for a, b in counts
    )
    cpu.sparse(cpu.raw(base), [cpu.raw(expert)] * len(counts), several, cpu.raw(out), 0, size)
    assert torch.equal(out, wanted)


def test_random_keys_change_at_entry_2_to_the_32() -> None:
    start = (1 << 32) - 100
    base, experts = torch.zeros(200), [torch.ones(200), 2 * torch.ones(200)]
    plan = Sparse(tuple(Random(1, "a", i, 30000) for i in (4, 5)), (1.0, 1.0), (1.0, 1.0), consensus=False)
    out = torch.empty(200)

    def late(x: Tensor) -> cpu.Raw:
        return cpu.Raw(x.data_ptr() - 4 * start, 0, start + 200)

    cpu.sparse(late(base), [late(x) for x in experts], plan, late(out), start, start + 200)
    assert torch.equal(out, oracle.sparse(base, experts, plan, [None, None], start))


@pytest.mark.parametrize("dtype", TYPES)
def test_rounding_is_to_the_nearest_even(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(-(1 << 31), 1 << 31, (1 << 18,), generator=generator).to(torch.int32)
    halves = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32) << 16 | 0x8000  # ties of bfloat16
    thirteenth = torch.arange(-(1 << 18), 1 << 18, dtype=torch.int32) << 13 | 0x1000  # ties of float16
    numbers = torch.cat([patterns, halves, thirteenth]).view(torch.float32)
    out = torch.empty(numbers.shape, dtype=dtype)
    bad = cpu.weighted(None, [cpu.raw(numbers)], Weighted(0.0, (1.0,)), cpu.raw(out), 0, len(numbers))
    wanted = numbers.to(dtype)
    assert torch.equal(out.isnan(), wanted.isnan())
    assert torch.equal(out.nan_to_num(), wanted.nan_to_num())
    assert bad == int((~wanted.isfinite()).sum())
    assert cpu.nonfinite(cpu.raw(numbers), 0, len(numbers)) == int((~numbers.isfinite()).sum())


@pytest.mark.parametrize("dtype", TYPES)
def test_every_number_of_a_type_is_read_as_it_is(dtype: torch.dtype) -> None:
    numbers = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(
        torch.bfloat16 if dtype == torch.float32 else dtype
    )
    numbers = numbers.to(dtype)
    out = torch.empty(numbers.shape)
    cpu.weighted(None, [cpu.raw(numbers)], Weighted(0.0, (1.0,)), cpu.raw(out), 0, len(numbers))
    assert torch.equal(out.isnan(), numbers.isnan())
    assert torch.equal(out.nan_to_num().view(torch.int32), numbers.float().nan_to_num().view(torch.int32))


def test_what_float16_cannot_hold_is_counted() -> None:
    numbers = torch.tensor([65519.0, 65520.0, -65520.0, 1e30, float("nan")])
    out = torch.empty(5, dtype=torch.float16)
    assert cpu.weighted(None, [cpu.raw(numbers)], Weighted(0.0, (1.0,)), cpu.raw(out), 0, 5) == 4
    assert cpu.weighted(None, [cpu.raw(numbers)], Weighted(0.0, (1.0,)), cpu.raw(out), 0, 1) == 0


def test_a_coefficient_that_is_infinite_is_counted_for_real_entries_only() -> None:
    zeros, out = torch.zeros(70), torch.empty(70)
    assert cpu.weighted(None, [cpu.raw(zeros)], Weighted(0.0, (float("inf"),)), cpu.raw(out), 0, 70) == 70


CUTS = (0, 65536, 3 * 65536, 200_001)


def cut_equals_whole(run: Callable[[Tensor, int, int], int], size: int) -> None:
    whole, cut, threaded = (torch.zeros(size, dtype=torch.bfloat16) for _ in range(3))
    run(whole, 0, size)
    for low, high in pairwise(CUTS):
        run(cut, low, high)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda piece: run(threaded, *piece), pairwise(CUTS)))
    assert torch.equal(whole.view(torch.int16), cut.view(torch.int16))
    assert torch.equal(whole.view(torch.int16), threaded.view(torch.int16))


def test_cuts_and_threads_change_no_byte() -> None:
    size = CUTS[-1]
    base, *experts = (tensor(size, TYPES[i % 3], i, coarse=True) for i in range(5))
    keys = keys_for(experts)
    masks: tuple[Mask, ...] = (
        Band(Rank(0.25, 70_000), Rank(0.0625, 150_001)),
        Random(1, "a", 1, 20_000),
        Ranked(1, "a", 2, 0.4, 0.6),
        Everything(),
    )
    plan = Sparse(masks, (1.5,) * 4, (0.3, -0.2, 0.7, 0.1), consensus=True, divide="weights", lambda_=0.9)
    inputs, tables = raws(experts), raws(keys)

    def sparse(out: Tensor, low: int, high: int) -> int:
        return cpu.sparse(cpu.raw(base), inputs, plan, cpu.raw(out), low, high, tables)

    def weighted(out: Tensor, low: int, high: int) -> int:
        return cpu.weighted(None, inputs, Weighted(0.0, (0.1, 0.2, 0.3, 0.4)), cpu.raw(out), low, high)

    cut_equals_whole(sparse, size)
    cut_equals_whole(weighted, size)


def test_what_lies_around_a_stretch_stays() -> None:
    source, out = torch.ones(300), torch.zeros(300)
    cpu.weighted(None, [cpu.raw(source)], Weighted(0.0, (1.0,)), cpu.raw(out), 64, 201)
    assert out[64:201].eq(1).all()
    assert not out[:64].any()
    assert not out[201:].any()


PROGRAM = """
import torch
from mergers._execution.kernels import cpu
from mergers._plan import Weighted
x, out = torch.ones(100), torch.empty(100)
cpu.weighted(None, [cpu.raw(x)], Weighted(0.0, (2.0,)), cpu.raw(out), 0, 100)
from mergers._execution.kernels._compiled.elementwise import weighted
print(out.sum().item(), sum(weighted.stats.cache_hits.values()), sum(weighted.stats.cache_misses.values()))
"""


def run(program: str = PROGRAM, **environment: str) -> str:
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env={**os.environ, **environment}, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_machine_code_is_kept_for_the_next_process(tmp_path: Path) -> None:
    assert run(NUMBA_CACHE_DIR=str(tmp_path)) == "200.0 0 1"
    assert run(NUMBA_CACHE_DIR=str(tmp_path)) == "200.0 1 0"


def test_without_a_place_to_keep_code_kernels_compile_anew() -> None:
    nowhere = {"NUMBA_CACHE_DIR": os.devnull + "/x", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    assert run(**nowhere) == "200.0 0 1"


def test_kernels_are_there_unless_the_processor_or_the_user_forbids(monkeypatch: pytest.MonkeyPatch) -> None:
    available = cpu.available.__wrapped__
    assert available()
    with monkeypatch.context() as patch:
        patch.setattr(numba.config, "CPU_FEATURES", "+avx", raising=False)
        assert not available()
    with monkeypatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", 1, raising=False)
        assert not available()


def test_the_facade_imports_no_numba() -> None:
    program = "import sys, mergers._execution.kernels.cpu; print('numba' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "False"
