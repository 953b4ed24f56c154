"""Model Stock (arXiv:2403.19522): how far to go from the base to the experts' mean, from the angle between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from ._maths.sphere import Gram, asked, gram, norms, weighted
from ._plan import Blocks, Weighted
from ._types import Count

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

_SMALLEST_PRODUCT = 1e-6  # a smaller product of two norms counts as this
_SINGULAR = 1e-6  # below this |1 + (k - 1) c| there is no finite estimate


def model_stock(base: Tensor, experts: Annotated[Sequence[Tensor], Count(2)], *, filter_wise: bool = False) -> Tensor:
    """`t mean(x_i) + (1 - t) b` with `t = k c / (1 + (k - 1) c)`.

    c is the mean cosine between two of the k differences `x_i - b`, over all pairs. It may be negative, and t with it;
    where the denominator is about 0 (below 1e-6) the result is the base.

    Args:
        base: the tensor that every expert started from.
        experts: at least two tensors shaped as `base`.
        filter_wise: one c for each row (of the last dimension) instead of one for the tensor.
    """
    if filter_wise:
        return _by_row(base, experts, 0)
    return weighted(experts, _weighted(gram(experts, base)), base)


def plan(tensor: Statistics, *, filter_wise: bool) -> Weighted | Blocks:
    """The same as a weighted sum, or row by row."""
    return Blocks(_by_row, whole_rows=True) if filter_wise else _weighted(asked(tensor, deltas=True))


def _weighted(products: Gram) -> Weighted:
    count, lengths = len(products), norms(products)
    cosines = [
        max(-1.0, min(1.0, products[i][j] / max(lengths[i] * lengths[j], _SMALLEST_PRODUCT)))
        for i, j in combinations(range(count), 2)
    ]
    cosine = math.fsum(cosines) / len(cosines)
    divisor = 1.0 + (count - 1) * cosine
    t = 0.0 if abs(divisor) < _SINGULAR else count * cosine / divisor
    return Weighted(1.0 - t, (t / count,) * count)


def _by_row(base: Tensor | None, experts: Sequence[Tensor], start: int) -> Tensor:
    assert base is not None
    count = len(experts)
    deltas = [expert - base for expert in experts]
    lengths = [_dot(delta, delta).sqrt_() for delta in deltas]
    cosine = torch.zeros_like(lengths[0])
    for i, j in combinations(range(count), 2):
        cosine += (_dot(deltas[i], deltas[j]) / (lengths[i] * lengths[j]).clamp_(min=_SMALLEST_PRODUCT)).clamp_(-1, 1)
    cosine /= count * (count - 1) / 2
    divisor = 1 + (count - 1) * cosine
    singular = divisor.abs() < _SINGULAR
    t = torch.where(singular, 0.0, count * cosine / torch.where(singular, 1.0, divisor))
    mixed = base * (1 - t).to(base.dtype)
    share = (t / count).to(base.dtype)
    for expert in experts:
        mixed.add_(expert * share)
    return mixed


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Row by row; products are rounded, sums are float64."""
    return torch.sum(x * y, -1, keepdim=True, dtype=torch.float64)
