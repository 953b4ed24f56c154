"""One set of questions for every device: numba on the CPU, Triton on CUDA, plain torch elsewhere.

Each backend answers on flat tensors of one device (float32, bfloat16 or float16 as stored). What is not worth a kernel
of its own (dot products, thresholds on a GPU) is torch in `kernels.device`; `kernels.blocks` is the readable
reference that the fused kernels are tested against, and serves where neither numba nor Triton is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .._plan import Rank, Ranked, Sparse, Weighted
from .scratch import scratch

Sums = np.ndarray[Any, np.dtype[np.float64]]


class Backend(Protocol):
    """What `_execute` and `_statistics` need of a device."""

    cut: int
    """Entries that may be merged apart: results do not depend on cuts at multiples of it. 0: the device has threads."""

    def weighted(
        self, base: Tensor | None, experts: Sequence[Tensor], plan: Weighted, out: Tensor, start: int, stop: int
    ) -> int:
        """Write entries [start, stop) of the merge; the number of results that are not finite in `out`'s type."""

    def sparse(
        self,
        base: Tensor,
        experts: Sequence[Tensor],
        plan: Sparse,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        """The same; `keys[i]` is 0 where a `Ranked` mask keeps an entry."""

    def nonfinite(self, tensor: Tensor) -> int:
        """The number of NaNs and infinities."""

    def gram(self, base: Tensor | None, experts: Sequence[Tensor], *, deltas: bool) -> Sums:
        """Float64 dot products (see `Statistics.gram`)."""

    def l1(self, base: Tensor, expert: Tensor) -> float:
        """The sum of |d|."""

    def rank(self, base: Tensor, expert: Tensor, count: int) -> Rank:
        """The end of the first `count` entries."""

    def ranks(self, base: Tensor, expert: Tensor, counts: Sequence[int]) -> Sequence[tuple[Rank, float]]:
        """The end of the first `count` entries for each of the ascending `counts`, with the sum of |d| up to there."""

    def random_sums(self, base: Tensor, expert: Tensor, seed: int, name: str, index: int) -> Sums:
        """Sums of |d| kept by random masks of threshold 1024 j, j = 0..64."""

    def random_sum(self, base: Tensor, expert: Tensor, seed: int, name: str, index: int, threshold: int) -> float:
        """The sum of |d| kept by one random mask."""

    def ranked_mask(self, base: Tensor, expert: Tensor, mask: Ranked, shape: tuple[int, ...]) -> tuple[Tensor, float]:
        """DELLA's mask (uint8, 0 where kept) and the sum of |d| kept."""

    def ranked_table(
        self, base: Tensor, expert: Tensor, mask: Ranked, shape: tuple[int, ...]
    ) -> tuple[Tensor, Sums] | None:
        """The masks of all densities j / 64 with `mask`'s spread (uint8, the smallest j that keeps), and their sums.

        None where the device makes each mask alone.
        """

    def select(self, values: Callable[[], Iterable[Tensor]], ranks: Sequence[int]) -> tuple[float, ...]:
        """Exact values at positions of the descending order of float32 numbers >= 0, given in blocks, twice."""


@cache
def backend(device: torch.device) -> Backend:
    """The fastest backend for tensors on `device`."""
    if device.type == "cpu":
        from .kernels import cpu

        return _Numba() if cpu.available() else _Torch()
    if device.type == "cuda":
        from .kernels import triton

        return _Triton() if triton.available(device) else _Torch()
    return _Torch()


class _Torch:
    """Plain torch on any device."""

    cut = 0

    def weighted(
        self, base: Tensor | None, experts: Sequence[Tensor], plan: Weighted, out: Tensor, start: int, stop: int
    ) -> int:
        from .kernels import blocks

        return int(blocks.weighted(base, experts, plan, out, start, stop))

    def sparse(
        self,
        base: Tensor,
        experts: Sequence[Tensor],
        plan: Sparse,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        from .kernels import blocks

        return int(blocks.sparse(base, experts, plan, out, start, stop, keys))

    def nonfinite(self, tensor: Tensor) -> int:
        step = 1 << 20
        return sum(int((~torch.isfinite(tensor[i : i + step])).sum()) for i in range(0, tensor.numel(), step))

    def gram(self, base: Tensor | None, experts: Sequence[Tensor], *, deltas: bool) -> Sums:
        from .kernels import device

        return device.gram(base, experts, deltas=deltas).cpu().numpy()

    def l1(self, base: Tensor, expert: Tensor) -> float:
        from .kernels import device

        return device.l1(base, expert)

    def rank(self, base: Tensor, expert: Tensor, count: int) -> Rank:
        return self.ranks(base, expert, (count,))[0][0]

    def ranks(self, base: Tensor, expert: Tensor, counts: Sequence[int]) -> Sequence[tuple[Rank, float]]:
        from .kernels import device

        return device.ranks(base, expert, counts)

    def random_sums(self, base: Tensor, expert: Tensor, seed: int, name: str, index: int) -> Sums:
        from .kernels import device

        return device.random_sums(base, expert, seed, name, index)

    def random_sum(self, base: Tensor, expert: Tensor, seed: int, name: str, index: int, threshold: int) -> float:
        from .kernels import device

        return device.random_sum(base, expert, seed, name, index, threshold)

    def ranked_mask(self, base: Tensor, expert: Tensor, mask: Ranked, shape: tuple[int, ...]) -> tuple[Tensor, float]:
        from .kernels import device

        return device.ranked_mask(base, expert, mask, shape)

    def ranked_table(
        self, base: Tensor, expert: Tensor, mask: Ranked, shape: tuple[int, ...]
    ) -> tuple[Tensor, Sums] | None:
        return None

    def select(self, values: Callable[[], Iterable[Tensor]], ranks: Sequence[int]) -> tuple[float, ...]:
        return select(values, ranks)


class _Triton(_Torch):
    """CUDA: fused kernels for the merge, torch for what is asked once."""

    def weighted(
        self, base: Tensor | None, experts: Sequence[Tensor], plan: Weighted, out: Tensor, start: int, stop: int
    ) -> int:
        from .kernels import triton

        assert (start, stop) == (0, out.numel()), "a device cuts for itself"
        return int(triton.weighted(base, experts, plan, out))

    def sparse(
        self,
        base: Tensor,
        experts: Sequence[Tensor],
        plan: Sparse,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        from .kernels import triton

        assert (start, stop) == (0, out.numel()), "a device cuts for itself"
        return int(triton.sparse(base, experts, plan, out, keys))


class _Numba(_Torch):
    """The CPU: everything fused, on raw memory."""

    cut = 1 << 16

    def weighted(
        self, base: Tensor | None, experts: Sequence[Tensor], plan: Weighted, out: Tensor, start: int, stop: int
    ) -> int:
        from .kernels import cpu

        first = None if base is None else cpu.raw(base)
        return cpu.weighted(first, [cpu.raw(x) for x in experts], plan, cpu.raw(out), start, stop)

    def sparse(
        self,
        base: Tensor,
        experts: Sequence[Tensor],
        plan: Sparse,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        from .kernels import cpu

        masks = [None if key is None else cpu.raw(key) for key in keys]
        inputs = [cpu.raw(x) for x in experts]
        return cpu.sparse(cpu.raw(base), inputs, plan, cpu.raw(out), start, stop, masks)

    def nonfinite(self, tensor: Tensor) -> int:
        from .kernels import cpu

        return cpu.nonfinite(cpu.raw(tensor), 0, tensor.numel())

    def gram(self, base: Tensor | None, experts: Sequence[Tensor], *, deltas: bool) -> Sums:
        from .kernels import cpu

        first = None if base is None else cpu.raw(base)
        inputs = [cpu.raw(x) for x in experts]
        return cpu.gram(first, inputs, deltas=deltas, start=0, stop=experts[0].numel())

    def l1(self, base: Tensor, expert: Tensor) -> float:
        from .kernels import cpu

        return cpu.l1(cpu.raw(base), cpu.raw(expert), 0, expert.numel())

    def rank(self, base: Tensor, expert: Tensor, count: int) -> Rank:
        from .kernels import cpu

        return cpu.rank(cpu.raw(base), cpu.raw(expert), count)

    def ranks(self, base: Tensor, expert: Tensor, counts: Sequence[int]) -> Sequence[tuple[Rank, float]]:
        from .kernels import cpu

        return cpu.ranks(cpu.raw(base), cpu.raw(expert), counts)

    def random_sums(self, base: Tensor, expert: Tensor, seed: int, name: str, index: int) -> Sums:
        from .kernels import cpu

        return cpu.random_sums(cpu.raw(base), cpu.raw(expert), seed, name, index)

    def random_sum(self, base: Tensor, expert: Tensor, seed: int, name: str, index: int, threshold: int) -> float:
        from .kernels import cpu

        return cpu.random_sum(cpu.raw(base), cpu.raw(expert), seed, name, index, threshold)

    def ranked_mask(self, base: Tensor, expert: Tensor, mask: Ranked, shape: tuple[int, ...]) -> tuple[Tensor, float]:
        from .kernels import cpu

        out = scratch(expert.numel())
        columns = shape[-1] if shape else 1
        rows = expert.numel() // max(1, columns)
        kept = cpu.ranked_mask(cpu.raw(base), cpu.raw(expert), mask, shape, 0, rows, cpu.raw(out))
        return out, float(kept)

    def ranked_table(
        self, base: Tensor, expert: Tensor, mask: Ranked, shape: tuple[int, ...]
    ) -> tuple[Tensor, Sums] | None:
        from .kernels import cpu

        out = scratch(expert.numel())
        spread = (mask.high - mask.low) / 2
        inputs = cpu.raw(base), cpu.raw(expert)
        return out, cpu.ranked_keys(*inputs, mask.seed, mask.name, mask.expert, spread, shape, cpu.raw(out))


def select(values: Callable[[], Iterable[Tensor]], ranks: Sequence[int]) -> tuple[float, ...]:
    """Exact values at positions `ranks` (0: largest) of the descending order; see `Backend.select`.

    The order of float32 numbers >= 0 is that of their bit patterns, so two passes of counting decide: one over the
    upper 16 bits, one over the lower 16 bits of the few upper halves that a wanted position falls into.
    """
    upper = _counted((bits >> 16 for bits in _patterns(values)), 1 << 15)
    above = upper.sum() - upper.cumsum()  # entries in higher bins
    bins = {rank: int(np.flatnonzero(above <= rank)[0]) for rank in ranks}
    lower: dict[int, Sums] = {}
    for wanted in sorted(set(bins.values())):
        lower[wanted] = np.zeros(1 << 16, dtype=np.int64)
    for bits in _patterns(values):
        half = bits >> 16
        for wanted, counts in lower.items():
            counts += _counted([bits[half == wanted] & 0xFFFF], 1 << 16)
    found = []
    for rank in ranks:
        counts = lower[bins[rank]]
        left = rank - int(above[bins[rank]])
        deeper = counts.sum() - counts.cumsum()
        low = int(np.flatnonzero(deeper <= left)[0])
        found.append(float(np.array([bins[rank] << 16 | low], dtype=np.int32).view(np.float32)[0]))
    return tuple(found)


def _patterns(values: Callable[[], Iterable[Tensor]]) -> Iterator[Tensor]:
    for block in values():
        yield block.contiguous().add(0.0).view(torch.int32)  # + 0 makes -0 the same number as 0


def _counted(pieces: Iterable[Tensor], bins: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    total = np.zeros(bins, dtype=np.int64)
    for piece in pieces:
        total += torch.bincount(piece, minlength=bins).cpu().numpy()
    return total
