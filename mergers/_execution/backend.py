"""One set of questions for every device: numba on the CPU, Triton on CUDA, plain torch elsewhere.

Each backend answers on flat tensors of one device (float32, bfloat16 or float16 as stored). What is not worth a kernel
of its own (dot products, thresholds on a GPU) is torch in `kernels.device`; `kernels.blocks` is the readable
reference that the fused kernels are tested against, and serves where neither numba nor Triton is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .._plan import Fused, Rank, Ranked, Sparse, Touched, Weighted
from .scratch import scratch

Sums = np.ndarray[Any, np.dtype[np.float64]]
Span = tuple[int, int]


class Backend(Protocol):
    """What `_execute` and `_statistics` need of a device."""

    cut: int
    """Entries that may be merged apart: results do not depend on cuts at multiples of it. 0: the device has threads."""

    def fused(
        self,
        base: Tensor | None,
        experts: Sequence[Tensor],
        plan: Fused,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        """Write entries [start, stop) of the merge; the number of results that are not finite in `out`'s type.

        `keys[i]` is 0 where a `Ranked` mask of a `Sparse` plan keeps an entry.
        """

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

    def fused(
        self,
        base: Tensor | None,
        experts: Sequence[Tensor],
        plan: Fused,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        from .kernels import blocks

        return _fused(blocks, plan, base, experts, out, (start, stop), keys)

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


class _Triton(_Torch):
    """CUDA: fused kernels for the merge, torch for what is asked once."""

    def fused(
        self,
        base: Tensor | None,
        experts: Sequence[Tensor],
        plan: Fused,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        from .kernels import triton

        assert (start, stop) == (0, out.numel()), "a device cuts for itself"
        if isinstance(plan, Weighted):
            return int(triton.weighted(base, experts, plan, out))
        if isinstance(plan, Sparse):
            assert base is not None, "differences need a base"
            return int(triton.sparse(base, experts, plan, out, keys))
        return super().fused(base, experts, plan, out, start, stop, keys)


class _Numba(_Torch):
    """The CPU: everything fused, on raw memory."""

    cut = 1 << 16

    def fused(
        self,
        base: Tensor | None,
        experts: Sequence[Tensor],
        plan: Fused,
        out: Tensor,
        start: int,
        stop: int,
        keys: Sequence[Tensor | None],
    ) -> int:
        from .kernels import cpu

        first = None if base is None else cpu.raw(base)
        inputs, tables = [cpu.raw(x) for x in experts], [None if key is None else cpu.raw(key) for key in keys]
        return _fused(cpu, plan, first, inputs, cpu.raw(out), (start, stop), tables)

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


def _fused(kernels: Any, plan: Fused, base: Any, experts: Sequence[Any], out: Any, span: Span, keys: Any) -> int:
    """What `kernels`, a module with a function for each kind of plan, makes of entries [start, stop)."""
    if isinstance(plan, Weighted):
        return int(kernels.weighted(base, experts, plan, out, *span))
    assert base is not None, "differences need a base"
    if isinstance(plan, Sparse):
        return int(kernels.sparse(base, experts, plan, out, *span, keys))
    if isinstance(plan, Touched):
        return int(kernels.touched(base, experts, plan, out, *span))
    return int(kernels.clipped(base, experts[0], plan, out, *span))
