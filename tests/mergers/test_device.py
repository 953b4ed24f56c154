"""Thresholds, sums and masks of whole tensors, block by block, against sorting and summing at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mergers._execution.kernels import device as kernels
from mergers._maths.draw import Draw, threshold
from mergers._plan import NOTHING_YET, Ranked

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = 1000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_CPU_BLOCK", 128)
    monkeypatch.setattr(kernels, "_DEVICE_BLOCK", 128)


def pair(dtype: torch.dtype, *, coarse: bool = False, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """A base and an expert; the magnitudes of a coarse difference tie, many of them at zero."""
    generator = torch.Generator().manual_seed(5)
    base, noise = torch.randn(2, size, generator=generator)
    expert = base + 0.1 * noise if not coarse else base.round() + noise.round()
    return (base.round() if coarse else base).to(DEVICE, dtype), expert.to(DEVICE, dtype)


def magnitude(base: Tensor, expert: Tensor) -> Tensor:
    return (expert.float() - base.float()).abs().cpu()


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ranks_end_where_a_stable_sort_ends(dtype: torch.dtype, coarse: bool) -> None:
    base, expert = pair(dtype, coarse=coarse)
    values = magnitude(base, expert)
    order = values.argsort(descending=True, stable=True)
    counts = [0, 1, 2, 127, 128, 129, 500, 500, SIZE - 1, SIZE, *(SIZE * j // 64 for j in range(65))]
    found = kernels.ranks(base, expert, counts)
    assert len(found) == len(counts)
    for count, (rank, total) in zip(counts, found, strict=True):
        first = order[:count]
        if count == 0:
            assert (rank, total) == (NOTHING_YET, 0.0)
        else:
            assert (rank.threshold, rank.last) == (float(values[first[-1]]), int(first[-1]))
            assert total == pytest.approx(float(values[first].double().sum()), rel=1e-12)


def test_ranks_of_no_difference_and_of_no_counts() -> None:
    base, _ = pair(torch.bfloat16)
    assert [(rank.threshold, rank.last, total) for rank, total in kernels.ranks(base, base, (1, 700))] == [
        (0.0, 0, 0.0),
        (0.0, 699, 0.0),
    ]
    assert kernels.ranks(base, base, ()) == []
    assert kernels.ranks(base, base, (0,)) == [(NOTHING_YET, 0.0)]


def test_random_sums_are_those_of_the_masks() -> None:
    base, expert = pair(torch.float32)
    values, bits = magnitude(base, expert).double(), Draw(3, "name").bits(SIZE, 1)
    sums = kernels.random_sums(base, expert, 3, "name", 1)
    assert sums.dtype == np.float64
    assert sums == pytest.approx([float(values[bits < 1024 * j].sum()) for j in range(65)], rel=1e-12)
    for level in (1, 1024, 12345, 65535):
        expected = float(values[bits < level].sum())
        assert kernels.random_sum(base, expert, 3, "name", 1, level) == pytest.approx(expected, rel=1e-12)


def test_a_gpu_adds_by_bin_what_a_cpu_adds() -> None:
    values, bins = torch.rand(2, 500, generator=torch.Generator().manual_seed(2))
    places = (bins * 9).long()
    expected = torch.bincount(places, weights=values.double(), minlength=10)
    assert expected[9] == 0
    torch.testing.assert_close(kernels._masked_sums(values, places, 10), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(SIZE,), (40, 25), (2, 500), (SIZE, 1), (1, SIZE)])
@pytest.mark.parametrize("coarse", [False, True])
def test_a_ranked_mask_follows_the_order_in_each_row(shape: tuple[int, ...], coarse: bool) -> None:
    base, expert = pair(torch.bfloat16, coarse=coarse)
    mask = Ranked(3, "name", 2, 0.2, 0.7)
    keys, total = kernels.ranked_mask(base, expert, mask, shape)
    values, bits = magnitude(base, expert), Draw(3, "name").bits(SIZE, 2)
    columns = shape[-1]
    kept = torch.zeros(SIZE, dtype=torch.bool)
    for row in range(0, SIZE, columns):
        order = sorted(range(columns), key=lambda e, row=row: (-float(values[row + e]), e))  # type: ignore[misc]
        for place, e in enumerate(order):
            rank = columns - 1 - place
            chance = 0.2 + (0.7 - 0.2) * rank / (columns - 1) if columns > 1 else (0.2 + 0.7) / 2
            kept[row + e] = bool(bits[row + e] < threshold(chance))
    assert keys.dtype == torch.uint8
    assert torch.equal(keys.cpu(), torch.where(kept, 0, 255).to(torch.uint8))
    assert total == pytest.approx(float(values[kept].double().sum()), rel=1e-12)


@pytest.mark.parametrize("deltas", [False, True])
def test_gram_is_every_dot_product(deltas: bool) -> None:
    base, one = pair(torch.float32)
    two = pair(torch.bfloat16, coarse=True)[1]
    vectors = [x.float() - base.float() for x in (one, two)] if deltas else [base, one, two]
    expected = [[float(a.double() @ b.double()) for b in vectors] for a in vectors]
    assert kernels.gram(base, (one, two), deltas=deltas).cpu().numpy() == pytest.approx(np.array(expected), rel=1e-12)
    assert kernels.gram(None, (one, two), deltas=False).shape == (2, 2)
