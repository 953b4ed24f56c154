"""A slow and obvious `Statistics`, and executor of plans that are weighted sums or blocks: what plans are held against.

Everything on whole tensors in numpy, in the tensors' own type; blocks are small and odd, so that a plan that mistakes a
position shows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mergers._maths.overlap import overlap
from mergers._maths.select import end
from mergers._plan import Blocks, Clipped, Rank, Touched, Weighted

T = TypeVar("T")

Array = np.ndarray[Any, np.dtype[Any]]


class Whole:
    """As `mergers._execution.statistics.Statistics`, for tensors of any one floating-point type."""

    def __init__(self, experts: Sequence[Tensor], base: Tensor | None = None, *, block: int = 7) -> None:
        self._base, self._experts, self._block = base, tuple(experts), block
        self.experts, self.shape, self.size = len(experts), tuple(experts[0].shape), experts[0].numel()

    @property
    def has_base(self) -> bool:
        return self._base is not None

    def delta(self, expert: int) -> Array:
        assert self._base is not None
        found: Array = (self._experts[expert] - self._base).flatten().numpy()
        return found

    def gram(self, deltas: bool) -> tuple[tuple[float, ...], ...]:
        if deltas:
            rows = [self.delta(i) for i in range(self.experts)]
        else:
            tensors = self._experts if self._base is None else (self._base, *self._experts)
            rows = [tensor.flatten().numpy() for tensor in tensors]
        stacked = np.stack(rows).astype(np.float64)
        return tuple(tuple(row) for row in (stacked @ stacked.T).tolist())

    def reduce(
        self, function: Callable[..., Any], *, key: Hashable = None, whole_rows: bool = False
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        found = [np.asarray(function(*block), dtype=np.float64) for block in self.blocks(whole_rows)]
        return np.asarray(sum(found[1:], start=found[0]) if found else 0.0)

    def computed(self, values: Callable[..., Tensor], *, whole_rows: bool = False) -> Tensor:
        return torch.cat([values(*block).flatten() for block in self.blocks(whole_rows)])

    def first(self, values: Tensor, count: int) -> Rank:
        return end(values, count)

    def remembered(self, key: Hashable, answer: Callable[[], T]) -> T:
        return answer()

    def blocks(self, whole_rows: bool) -> Iterator[tuple[Tensor | None, tuple[Tensor, ...], int]]:
        columns = (self.shape[-1] if self.shape else 1) if whole_rows else 1
        step = columns * (2 if whole_rows else self._block)
        for start in range(0, self.size, max(1, step)):
            pieces = [
                None if x is None else x.flatten()[start : start + step].clone() for x in (self._base, *self._experts)
            ]
            first, *others = [x if x is None or not whole_rows else x.view(-1, columns) for x in pieces]
            yield first, tuple(x for x in others if x is not None), start


def run(plan: Weighted | Clipped | Touched | Blocks, experts: Sequence[Tensor], base: Tensor | None = None) -> Tensor:
    """The merge that `plan` stands for, in the tensors' own type."""
    whole = Whole(experts, base)
    if isinstance(plan, Blocks):
        pieces = [plan.apply(*block).flatten() for block in whole.blocks(plan.whole_rows)]
        return torch.cat(pieces).view(whole.shape) if pieces else experts[0].clone()
    if isinstance(plan, Clipped):
        assert base is not None
        move = (plan.scale * (experts[0] - base)).numpy()
        return torch.from_numpy(np.clip(move, -plan.limit, plan.limit).astype(move.dtype)) + base
    if isinstance(plan, Touched):
        assert base is not None
        return overlap(base, experts, 0, epsilon=plan.epsilon, scales=plan.scales)
    number = experts[0].numpy().dtype.type
    terms: list[Any] = [number(c) * x.numpy() for c, x in zip(plan.experts, experts, strict=True)]
    if base is not None and plan.base != 0:
        terms.insert(0, number(plan.base) * base.numpy())
    return torch.from_numpy(np.asarray(sum(terms[1:], start=terms[0])))
