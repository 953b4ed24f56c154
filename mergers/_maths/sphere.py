"""Merges in the span of the inputs: dot products in, one coefficient per input out.

Directions, angles and means on the sphere are functions of the inputs' dot products alone. Taken in float64, these are
all that a method needs to see of a tensor, however large; what is left is a weighted sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._plan import Weighted

if TYPE_CHECKING:
    from .._execution.statistics import Statistics

Gram = Sequence[Sequence[float]]
"""Dot products of the experts (of their differences from the base, where a method works on those)."""

_BLOCK = 1 << 20  # entries turned to float64 at a time


def gram(experts: Sequence[Tensor], base: Tensor | None = None) -> Gram:
    """Dot products of the flattened experts, minus `base` if given, summed in float64 over fixed blocks.

    A float32 sum depends on the number of threads, and so would the merge's bytes.
    """
    total = torch.zeros(len(experts), len(experts), dtype=torch.float64, device=experts[0].device)
    flat, origin = [expert.flatten() for expert in experts], None if base is None else base.flatten()
    for start in range(0, flat[0].numel(), _BLOCK):
        pieces = [x[start : start + _BLOCK] for x in flat]
        if origin is not None:
            pieces = [piece - origin[start : start + _BLOCK] for piece in pieces]
        rows = torch.stack(pieces).double()
        total += rows @ rows.T
    return tuple(tuple(row) for row in total.tolist())


def asked(tensor: Statistics, *, deltas: bool) -> Gram:
    """The same from `tensor`: its experts alone, whether or not it has a base."""
    found = tensor.gram(deltas)
    return tuple(tuple(row[-tensor.experts :]) for row in found[-tensor.experts :])


def weighted(experts: Sequence[Tensor], plan: Weighted, base: Tensor | None = None) -> Tensor:
    """What `plan` stands for, in the experts' type; every product is rounded by itself, as in the fused kernels."""
    terms = list(zip(experts, plan.experts, strict=True))
    if base is not None and plan.base != 0:
        terms.insert(0, (base, plan.base))
    (first, share), *others = terms
    mixed = first * share
    for tensor, share in others:
        mixed.add_(tensor * share)
    return mixed


def from_base(shares: Sequence[float]) -> Weighted:
    """`b + sum c_i (x_i - b)` for shares c_i, as one weighted sum."""
    return Weighted(1.0 - math.fsum(shares), tuple(shares))


def norms(products: Gram) -> tuple[float, ...]:
    """Lengths of the vectors."""
    return tuple(math.sqrt(max(0.0, products[i][i])) for i in range(len(products)))


def spherical(cosine: float, t: float, *, straight: bool) -> tuple[float, float]:
    """Shares of two vectors at `t` on the arc between them: `sin((1-t) w) / sin(w)` and `sin(t w) / sin(w)`.

    Args:
        cosine: of the angle w, in [-1, 1].
        t: 0 gives the first, 1 the second.
        straight: `1 - t` and `t` instead, where the angle is too near 0 or pi to divide by its sine.
    """
    if straight:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
