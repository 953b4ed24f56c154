"""Sums and ranks of the CPU kernels against sorting and adding everything."""

from __future__ import annotations

from math import fsum

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers._execution.kernels import _bracket, _order, cpu
from mergers._plan import NOTHING_YET, Rank, Ranked
from tests.oracles import kernels as oracle

from .test_kernels import TYPES, raws, tensor

SIZES = st.sampled_from((1, 63, 64, 65, 4095, 4096, 4097)) | st.integers(1, 300)
quick = settings(max_examples=40, deadline=None)


@st.composite
def pairs(draw: st.DrawFn, sizes: st.SearchStrategy[int] = SIZES) -> tuple[Tensor, Tensor, Tensor]:
    """Base, expert, their difference."""
    size, seed, coarse = draw(sizes), draw(st.integers(0, 999)), draw(st.booleans())
    base, expert = (tensor(size, draw(st.sampled_from(TYPES)), 2 * seed + i, coarse=coarse) for i in range(2))
    return base, expert, expert.float() - base.float()


@pytest.mark.parametrize("counting", [False, True])
@quick
@given(case=pairs(), data=st.data())
def test_ranks_end_the_order_where_sorting_does(
    case: tuple[Tensor, Tensor, Tensor], data: st.DataObject, counting: bool
) -> None:
    base, expert, delta = case
    counts = data.draw(st.lists(st.integers(0, len(delta)), min_size=1, max_size=20))
    order = oracle.order(delta)
    sizes = delta.abs().double().numpy()[order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_order, "_SMALL", 0 if counting else 1 << 20)
        found = cpu.ranks(cpu.raw(base), cpu.raw(expert), counts)
    for count, (rank, total) in zip(counts, found, strict=True):
        assert rank == (Rank(sizes[count - 1], int(order[count - 1])) if count else NOTHING_YET)
        assert total == pytest.approx(fsum(sizes[:count]), rel=1e-13)


@st.composite
def differences(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Base and expert: differences are smooth, of few magnitudes, mostly 0, or all but one 0."""
    size, seed = draw(st.integers(1 << 16, 1 << 18)) + 1, draw(st.integers(0, 999))
    kind, dtype = draw(st.sampled_from(("smooth", "steps", "equal", "outlier"))), draw(st.sampled_from(TYPES))
    noise = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    base = tensor(size, dtype, seed, coarse=False)
    if kind == "steps":
        noise = np.round(noise)
    elif kind == "equal":
        noise *= np.arange(size) % 100 == 0
    elif kind == "outlier":
        noise[:] = 0.0
        noise[seed] = 1.0
    return base, (base.float() + 0.01 * torch.from_numpy(noise)).to(dtype)


@settings(max_examples=60, deadline=None)
@given(case=differences(), data=st.data())
def test_one_rank_is_that_of_many(case: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    base, expert = (cpu.raw(x) for x in case)
    size = base.size
    counts = sorted({1, size // 2, size, *data.draw(st.lists(st.integers(0, size), max_size=4))})
    expected = [rank for rank, _ in cpu.ranks(base, expert, counts)]
    assert [cpu.rank(base, expert, count) for count in counts] == expected


def test_a_misleading_sample_costs_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    base, expert = (tensor(150_001, torch.bfloat16, i, coarse=False) for i in range(2))
    pair = cpu.raw(base), cpu.raw(expert)
    monkeypatch.setattr(_bracket, "_sample", lambda stretch: np.full(1 << 15, 1e-9, dtype=np.float32))
    assert _bracket.rank(*pair, 75_000) is None
    assert cpu.rank(*pair, 75_000) == cpu.ranks(*pair, (75_000,))[0][0]


def test_both_ways_to_ranks_agree_on_a_large_tensor() -> None:
    base, expert = (tensor(150_001, torch.bfloat16, i, coarse=False) for i in range(2))
    counts = [150_001 * j // 64 for j in range(65)]
    counted = cpu.ranks(cpu.raw(base), cpu.raw(expert), counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_order, "_SMALL", 1 << 20)
        ordered = cpu.ranks(cpu.raw(base), cpu.raw(expert), counts)
    assert [rank for rank, _ in counted] == [rank for rank, _ in ordered]
    assert [total for _, total in counted] == pytest.approx([total for _, total in ordered], rel=1e-12)


def test_counted_sums_are_rounded_once() -> None:
    expert = torch.tensor([2.0**100, 1.0, 2.0**-140, 3.0, 2.0**-149])
    base = torch.zeros(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_order, "_SMALL", 0)
        found = cpu.ranks(cpu.raw(base), cpu.raw(expert), [1, 2, 3, 4, 5])
    values = sorted(expert.tolist(), reverse=True)
    assert [total for _, total in found] == [fsum(values[:k]) for k in range(1, 6)]


@quick
@given(case=pairs(), index=st.integers(0, 5), threshold=st.integers(1, 65535))
def test_random_sums_are_those_of_what_masks_keep(
    case: tuple[Tensor, Tensor, Tensor], index: int, threshold: int
) -> None:
    base, expert, delta = case
    bits = oracle.random_bits(7, "n", index, range(len(delta)))
    sizes = delta.abs().double()
    sums = cpu.random_sums(cpu.raw(base), cpu.raw(expert), 7, "n", index)
    wanted = [float(sizes[bits < 1024 * j].sum()) for j in range(65)]
    assert sums.tolist() == pytest.approx(wanted, rel=1e-13)
    one = cpu.random_sum(cpu.raw(base), cpu.raw(expert), 7, "n", index, threshold)
    assert one == pytest.approx(float(sizes[bits < threshold].sum()), rel=1e-13)


@quick
@given(
    case=pairs(st.sampled_from((1, 60, 64, 120, 180, 240, 300))),
    columns=st.sampled_from((1, 2, 3, 12, 60)),
    index=st.integers(0, 3),
    density=st.integers(11, 53),
)
def test_dellas_masks_follow_ranks_within_rows(
    case: tuple[Tensor, Tensor, Tensor], columns: int, index: int, density: int
) -> None:
    base, expert, delta = case
    columns = columns if len(delta) % columns == 0 else len(delta)
    shape = (len(delta) // columns, columns)
    bits = oracle.random_bits(7, "n", index, range(len(delta)))
    low, high = density / 64 - 0.15, density / 64 + 0.15
    wanted = oracle.ranked(delta, columns, low, high, bits)
    total = float(delta.abs().double()[wanted].sum())
    out = torch.empty(len(delta), dtype=torch.uint8)
    mask = Ranked(7, "n", index, low, high)
    found = cpu.ranked_mask(cpu.raw(base), cpu.raw(expert), mask, shape, 0, shape[0], cpu.raw(out))
    assert torch.equal(out, torch.where(wanted, 0, 255).to(torch.uint8))
    assert found == pytest.approx(total, rel=1e-12)
    sums = cpu.ranked_keys(cpu.raw(base), cpu.raw(expert), 7, "n", index, 0.15, shape, cpu.raw(out))
    assert torch.equal(out <= density, wanted)
    assert sums[density] == pytest.approx(total, rel=1e-12)


def test_dellas_rows_may_come_in_pieces() -> None:
    base, expert = (tensor(40 * 50, torch.float32, i, coarse=True) for i in range(2))
    whole, pieces = (torch.empty(2000, dtype=torch.uint8) for _ in range(2))
    mask = Ranked(7, "n", 0, 0.3, 0.6)
    arguments = cpu.raw(base), cpu.raw(expert), mask, (5, 8, 50)
    total = cpu.ranked_mask(*arguments, 0, 40, cpu.raw(whole))
    parts = [cpu.ranked_mask(*arguments, low, high, cpu.raw(pieces)) for low, high in ((0, 7), (7, 8), (8, 40))]
    assert torch.equal(whole, pieces)
    assert total == pytest.approx(sum(parts), rel=1e-13)


def test_one_long_row() -> None:
    base, expert = (tensor(30_000, torch.bfloat16, i, coarse=True) for i in range(2))
    out = torch.empty(30_000, dtype=torch.uint8)
    cpu.ranked_mask(cpu.raw(base), cpu.raw(expert), Ranked(7, "n", 1, 0.3, 0.6), (30_000,), 0, 1, cpu.raw(out))
    bits = oracle.random_bits(7, "n", 1, range(30_000))
    assert torch.equal(out == 0, oracle.ranked(expert.float() - base.float(), 30_000, 0.3, 0.6, bits))


@quick
@given(
    size=st.sampled_from((1, 63, 64, 65, 511, 513, 65535, 65536, 65537)) | st.integers(1, 300),
    types=st.lists(st.sampled_from(TYPES), min_size=2, max_size=9),
    deltas=st.booleans(),
    with_base=st.booleans(),
)
def test_dot_products(size: int, types: list[torch.dtype], deltas: bool, with_base: bool) -> None:
    base, *experts = (tensor(size, dtype, i, coarse=False) for i, dtype in enumerate(types))
    known = cpu.raw(base) if deltas or with_base else None
    found = cpu.gram(known, raws(experts), deltas=deltas, start=0, stop=size)
    vectors = [x.float() - base.float() for x in experts] if deltas else [*([base] if with_base else []), *experts]
    stacked = torch.stack(vectors).double().numpy()
    assert found == pytest.approx(stacked @ stacked.T, rel=1e-12, abs=1e-13 * size)
    assert np.array_equal(found, found.T)
    total = cpu.l1(cpu.raw(base), cpu.raw(experts[0]), 0, size)
    assert total == pytest.approx(float((experts[0].float() - base.float()).abs().double().sum()), rel=1e-13)


def test_sums_of_cuts_are_sums_of_blocks() -> None:
    """Added block by block, results don't depend on who computed which block."""
    base, *experts = (tensor(200_001, torch.bfloat16, i, coarse=False) for i in range(3))
    whole = cpu.gram(cpu.raw(base), raws(experts), deltas=True, start=0, stop=200_001)
    blocks = [(low, min(200_001, low + 65536)) for low in range(0, 200_001, 65536)]
    total = np.zeros((2, 2))
    for low, high in blocks:
        total += cpu.gram(cpu.raw(base), raws(experts), deltas=True, start=low, stop=high)
    assert np.array_equal(whole, total)
    assert cpu.l1(cpu.raw(base), cpu.raw(experts[0]), 0, 200_001) == sum(
        cpu.l1(cpu.raw(base), cpu.raw(experts[0]), low, high) for low, high in blocks
    )
