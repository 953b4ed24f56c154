"""Arcee Fusion: the expert's entries where they matter most, the base's elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from ._plan import Blocks
from ._types import Count

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

_FLOOR = 1e-8  # added to each probability


def arcee_fusion(base: Tensor, experts: Annotated[Sequence[Tensor], Count(1, 1)]) -> Tensor:
    """X where `I >= median(I) + 1.5 (Q3 - Q1)`, b elsewhere, with importance `I = |x - b| KL` entry by entry.

    KL is the divergence between `softmax(x) + 1e-8` and `softmax(b) + 1e-8` along the last dimension, one number for a
    row; Q1, the median and Q3 are the values at `int(q (n - 1))` of all n in ascending order.

    Two differences from mergekit, both for the sake of exactness: it estimates the quantiles of tensors of more than a
    million entries from a million random draws, these are exact and the same every time; and it computes KL in
    float32, where the divergence of a fine-tuned row is of the size of the rounding, here it is float64.

    Args:
        base: the tensor to take most entries from.
        experts: exactly one tensor, shaped as `base`.
    """
    if base.numel() == 0:
        return base.clone()
    flat = [x.reshape(-1, x.shape[-1] if x.dim() else 1) for x in (base, experts[0])]
    divergence = _divergence(*flat)
    ordered = _importance(flat[0], flat[1:], 0, divergence=divergence).flatten().sort(descending=True).values
    threshold = _threshold([float(ordered[rank]) for rank in _ranks(base.numel())])
    return _apply(flat[0], flat[1:], 0, divergence=divergence, threshold=threshold).view(base.shape)


def plan(tensor: Statistics) -> Blocks:
    """The same on stretches, after one pass for the rows' divergences and those for the order."""
    columns = tensor.shape[-1] if tensor.shape else 1
    divergence = torch.zeros(tensor.size // max(1, columns), 1, dtype=torch.float64)

    def fill(base: Tensor | None, experts: Sequence[Tensor], start: int) -> list[float]:
        assert base is not None
        found = _divergence(base, experts[0])
        row = start // columns
        divergence[row : row + len(found)] = found.cpu()
        return []

    tensor.reduce(fill, whole_rows=True)
    importance = tensor.computed(partial(_importance, divergence=divergence), whole_rows=True)
    threshold = _threshold([tensor.first(importance, rank + 1).threshold for rank in _ranks(tensor.size)])
    return Blocks(partial(_apply, divergence=divergence, threshold=threshold), whole_rows=True)


def _ranks(size: int) -> tuple[int, int, int]:
    """Positions of the three quartiles in the descending order."""
    first, second, third = (size - 1 - quarter * (size - 1) // 4 for quarter in (1, 2, 3))
    return first, second, third


def _threshold(quartiles: Sequence[float]) -> float:
    first, median, third = quartiles
    return median + 1.5 * (third - first)


def _divergence(base: Tensor, expert: Tensor) -> Tensor:
    """KL of each row as float64, shaped (rows, 1). It is never negative: both sides sum to the same."""
    p = torch.softmax(expert.double(), -1).add_(_FLOOR)
    q = torch.softmax(base.double(), -1).add_(_FLOOR)
    return torch.div(p, q, out=q).log_().mul_(p).sum(-1, keepdim=True).clamp_(min=0)


def _importance(base: Tensor | None, experts: Sequence[Tensor], start: int, *, divergence: Tensor) -> Tensor:
    assert base is not None
    row = start // base.shape[-1]
    return torch.sub(experts[0], base).abs_().mul_(divergence[row : row + len(base)].to(base))


def _apply(
    base: Tensor | None, experts: Sequence[Tensor], start: int, *, divergence: Tensor, threshold: float
) -> Tensor:
    importance = _importance(base, experts, start, divergence=divergence)
    bound = torch.tensor(threshold, dtype=importance.dtype, device=importance.device)
    assert base is not None
    return torch.where(importance >= bound, experts[0], base)
