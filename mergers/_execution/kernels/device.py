"""Dot products, thresholds and sums of whole tensors, in torch on any device: what plans are made of.

Tensors are flat, contiguous and on one device, of any floating-point types. A difference is `x - b` in float32,
computed a block at a time and never kept. Sums are float64, over fixed blocks in order. No floats are added by atomic
operations, whose order changes from run to run: a GPU gives the same answer each time.

Run on CPU tensors only so far; `pytest tests/mergers/test_device.py` runs the same comparisons on a GPU where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..._maths.draw import LEVELS, Draw
from ..._plan import NOTHING_YET, Rank, Ranked

Sums = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Singles = np.ndarray[Any, np.dtype[np.float32]]

_CPU_BLOCK, _DEVICE_BLOCK = 1 << 16, 1 << 22
_GRID = 64
_UPPER, _LOWER = 1 << 15, 1 << 16  # halves of the bits of a float32 that is not negative


def gram(base: Tensor | None, experts: Sequence[Tensor], *, deltas: bool) -> Tensor:
    """Dot products in float64.

    Args:
        base: flat; needed for differences.
        experts: flat.
        deltas: of the experts' differences from the base; otherwise of the inputs, the base (if any) first.

    Returns:
        Float64, a row and a column per vector, on the tensors' device.
    """
    tensors = experts if base is None or deltas else (base, *experts)
    total = torch.zeros(len(tensors), len(tensors), dtype=torch.float64, device=experts[0].device)
    for low, high in _stretches(experts[0]):
        vectors = torch.stack([tensor[low:high].float() for tensor in tensors])
        if deltas:
            assert base is not None, "differences need a base"
            vectors -= base[low:high].float()
        doubled = vectors.double()
        total += doubled @ doubled.T
    return total


def ranks(base: Tensor, expert: Tensor, counts: Sequence[int]) -> list[tuple[Rank, float]]:
    """Where the first `count` entries of a difference end, and the sum of their magnitudes, for each of `counts`.

    Exact, in three passes and little memory, however many counts: float32 numbers that are not negative are ordered as
    their bits, so counting upper halves, then lower halves within the upper halves where a count ends, gives the
    magnitudes that counts end with; among entries of such a magnitude the first ones are taken.

    Args:
        base: flat.
        expert: flat.
        counts: each from 0 to the number of entries.
    """
    if not any(counts):
        return [(NOTHING_YET, 0.0)] * len(counts)
    wanted = tuple({count: None for count in counts if count > 0})
    limits = dict(zip(wanted, _limits(base, expert, wanted), strict=True))
    edges = np.unique(np.array([limit.magnitude for limit in limits.values()], dtype=np.float32))
    equal, beyond = _around(base, expert, edges)
    result = []
    for count in counts:
        if count == 0:
            result.append((NOTHING_YET, 0.0))
            continue
        limit = limits[count]
        edge = int(np.searchsorted(edges, np.float32(limit.magnitude)))
        last = _place(base, expert, limit, equal[:, edge])
        result.append((Rank(limit.magnitude, last), float(beyond[edge]) + limit.equal * limit.magnitude))
    return result


def l1(base: Tensor, expert: Tensor) -> float:
    """The sum of |x - b|."""
    total = torch.zeros((), dtype=torch.float64, device=base.device)
    for _, magnitude in _magnitudes(base, expert):
        total += magnitude.sum(dtype=torch.float64)
    return float(total)


def random_sums(base: Tensor, expert: Tensor, seed: int, name: str, index: int) -> Sums:
    """The sums of |x - b| that random masks of thresholds 1024 j keep, j = 0 .. 64: nothing to everything.

    Args:
        base: flat.
        expert: flat.
        seed: of the merge.
        name: of the tensor.
        index: of the expert, whose random bits these are.
    """
    sums = torch.zeros(_GRID, dtype=torch.float64, device=base.device)
    for low, magnitude in _magnitudes(base, expert):
        bits = Draw(seed, name).bits(magnitude.numel(), index, base.device, start=low)
        sums += _binned(magnitude, bits // (LEVELS // _GRID), _GRID)
    return np.concatenate(([0.0], np.cumsum(sums.cpu().numpy())))


def random_sum(base: Tensor, expert: Tensor, seed: int, name: str, index: int, threshold: int) -> float:
    """The sum of |x - b| that one random mask keeps; arguments as for `random_sums`."""
    total = torch.zeros((), dtype=torch.float64, device=base.device)
    for low, magnitude in _magnitudes(base, expert):
        bits = Draw(seed, name).bits(magnitude.numel(), index, base.device, start=low)
        total += magnitude.masked_fill_(bits >= threshold, 0.0).sum(dtype=torch.float64)
    return float(total)


def ranked_mask(base: Tensor, expert: Tensor, mask: Ranked, shape: tuple[int, ...]) -> tuple[Tensor, float]:
    """DELLA's mask of a difference: uint8, flat, 0 where kept and 255 elsewhere; and the sum of |x - b| kept.

    Args:
        base: flat.
        expert: flat.
        mask: what to keep.
        shape: of the tensor, up to two dimensions; ranks run along the last.
    """
    columns = shape[-1] if shape else 1
    keys = torch.empty(expert.numel(), dtype=torch.uint8, device=expert.device)
    total = torch.zeros((), dtype=torch.float64, device=expert.device)
    levels = _levels(mask, columns).to(expert.device)
    for low, flat in _magnitudes(base, expert, columns):
        magnitude = flat.view(-1, columns)
        order = magnitude.argsort(dim=1, descending=True, stable=True)
        wanted = torch.empty_like(order, dtype=torch.int32).scatter_(1, order, levels.expand_as(order))
        bits = Draw(mask.seed, mask.name).bits(flat.numel(), mask.expert, expert.device, start=low)
        dropped = bits >= wanted.flatten()
        keys[low : low + flat.numel()] = dropped.to(torch.uint8) * 255
        total += flat.masked_fill_(dropped, 0.0).sum(dtype=torch.float64)
    return keys, float(total)


def _levels(mask: Ranked, columns: int) -> Tensor:
    """What random bits must be below, by position in a row's order: int32, the largest entry first."""
    if columns == 1:
        chances = torch.tensor([(mask.low + mask.high) / 2], dtype=torch.float64)
    else:
        rank = torch.arange(columns - 1, -1, -1, dtype=torch.float64)
        chances = mask.low + (mask.high - mask.low) * rank / (columns - 1)
    return (chances * LEVELS + 0.5).floor().clamp(1, LEVELS - 1).int()


class _Limit(NamedTuple):
    """The magnitude that a count ends with, and how many entries of exactly that magnitude it takes."""

    magnitude: float
    equal: int


def _limits(base: Tensor, expert: Tensor, counts: Sequence[int]) -> list[_Limit]:
    """One per count; counts are 1 or more."""
    upper = torch.zeros(_UPPER, dtype=torch.int64, device=base.device)
    for _, magnitude in _magnitudes(base, expert):
        _count(magnitude.view(torch.int32) >> 16, upper)
    halves, higher = _fall(upper.cpu().numpy(), np.asarray(counts) - 1)
    wanted, rows = np.unique(halves, return_inverse=True)
    row = torch.full((_UPPER,), len(wanted))  # upper halves that no count ends in share the last row
    row[torch.from_numpy(wanted)] = torch.arange(len(wanted))
    row = row.to(base.device)
    lower = torch.zeros((len(wanted) + 1) * _LOWER, dtype=torch.int64, device=base.device)
    for _, magnitude in _magnitudes(base, expert):
        bits = magnitude.view(torch.int32)
        _count(row[bits >> 16] * _LOWER + (bits & (_LOWER - 1)), lower)
    tables = lower.view(-1, _LOWER).cpu().numpy()
    result = []
    for count, half, above, index in zip(counts, halves, higher, rows, strict=True):
        low, deeper = _fall(tables[index], np.array([count - 1 - above]))
        pattern = np.array([half << 16 | low[0]], dtype=np.int32)
        result.append(_Limit(float(pattern.view(np.float32)[0]), int(count - above - deeper[0])))
    return result


def _count(bins: Tensor, table: Tensor) -> None:
    """Add the number of entries in each bin to `table`; torch.bincount would make a table per call."""
    table.scatter_add_(0, bins.long(), torch.ones((), dtype=torch.int64, device=bins.device).expand(bins.shape))


def _fall(table: Integers, places: Integers) -> tuple[Integers, Integers]:
    """The bin that each 0-based place of the descending order falls into; the number of entries in higher bins."""
    higher = table.sum() - table.cumsum()
    bins = len(table) - np.searchsorted(higher[::-1], places, side="right")
    return bins, higher[bins]


def _around(base: Tensor, expert: Tensor, edges: Singles) -> tuple[Integers, Sums]:
    """For ascending magnitudes: the number of entries equal to each, block by block; the sum of all greater ones."""
    values = torch.from_numpy(edges).to(base.device)
    equal, sums = [], torch.zeros(len(edges) + 1, dtype=torch.float64, device=base.device)
    for _, magnitude in _magnitudes(base, expert):
        place = torch.searchsorted(values, magnitude)  # how many are smaller
        sums += _binned(magnitude, place, len(edges) + 1)
        hit = values[place.clamp(max=len(edges) - 1)] == magnitude
        equal.append(torch.bincount(place.masked_fill_(~hit, len(edges)), minlength=len(edges) + 1)[:-1])
    beyond = sums.flip(0).cumsum(0).flip(0)[1:]
    return torch.stack(equal).cpu().numpy(), beyond.cpu().numpy()


def _place(base: Tensor, expert: Tensor, limit: _Limit, equal: Integers) -> int:
    """Position of the last entry that a count takes; `equal`: how many of its magnitude each block has."""
    seen = equal.cumsum()
    block = int(np.searchsorted(seen, limit.equal))
    low, high = list(_stretches(base))[block]
    hits = (_magnitude(base[low:high], expert[low:high]) == limit.magnitude).nonzero().flatten()
    return low + int(hits[limit.equal - 1 - (int(seen[block - 1]) if block else 0)])


def _binned(values: Tensor, bins: Tensor, count: int) -> Tensor:
    """The sum of the values in each bin 0 .. count - 1, in float64 and in a fixed order."""
    if values.device.type == "cpu":
        return torch.bincount(bins, weights=values.double(), minlength=count)
    return _masked_sums(values, bins, count)


def _masked_sums(values: Tensor, bins: Tensor, count: int) -> Tensor:
    """As torch.bincount, which on a GPU adds in any order."""
    return torch.stack([torch.where(bins == i, values, 0.0).sum(dtype=torch.float64) for i in range(count)])


def _magnitude(base: Tensor, expert: Tensor) -> Tensor:
    return expert.float().sub(base.float()).abs_()


def _magnitudes(base: Tensor, expert: Tensor, columns: int = 1) -> Iterator[tuple[int, Tensor]]:
    """|x - b| in float32, a block of whole rows after the other, each with the position of its first entry."""
    for low, high in _stretches(base, columns):
        yield low, _magnitude(base[low:high], expert[low:high])


def _stretches(tensor: Tensor, columns: int = 1) -> Iterator[tuple[int, int]]:
    """Blocks of whole rows."""
    size = _CPU_BLOCK if tensor.device.type == "cpu" else _DEVICE_BLOCK
    step = max(1, size // max(1, columns)) * max(1, columns)
    for low in range(0, tensor.numel(), step):
        yield low, min(low + step, tensor.numel())
