"""Spherical interpolation between two experts (Shoemake, Animating rotation with quaternion curves, 1985)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from ._types import Count, Range

_COLINEAR = 0.9995  # beyond this |cosine| the angle is too small, or too near pi, to divide by its sine
_SMALLEST_NORM = 1e-8  # a norm up to this counts as 1
_BLOCK = 1 << 20  # elements turned to float64 at a time


def slerp(
    experts: Annotated[Sequence[Tensor], Count(2, 2)], *, t: Annotated[float, Range(0.0, 1.0, (0.0, 1.0))]
) -> Tensor:
    """`[sin((1-t) w) x_1 + sin(t w) x_2] / sin(w)`, with w the angle between the flattened tensors.

    The coefficients apply to the tensors as they are, not to unit vectors. Nearly parallel or opposite
    tensors (|cos w| > 0.9995) are interpolated in a straight line.

    Args:
        experts: exactly two tensors of one shape.
        t: 0 gives the first, 1 the second.
    """
    first, second = experts[0], experts[1]
    cosine = _cosine(first, second)
    left, right = 1.0 - t, t
    if abs(cosine) <= _COLINEAR:
        angle = math.acos(cosine)
        left, right = math.sin(left * angle) / math.sin(angle), math.sin(right * angle) / math.sin(angle)
    return (first * left).add_(second, alpha=right)


def _cosine(first: Tensor, second: Tensor) -> float:
    """Cosine between flattened tensors, summed in float64: bytes must not depend on the number of threads."""
    sums = torch.zeros(3, dtype=torch.float64, device=first.device)
    x, y = first.flatten(), second.flatten()
    for start in range(0, x.numel(), _BLOCK):
        u, v = x[start : start + _BLOCK].double(), y[start : start + _BLOCK].double()
        sums += torch.stack((u.dot(u), v.dot(v), u.dot(v)))
    norms = [math.sqrt(square) for square in sums[:2].tolist()]
    left, right = (norm if norm > _SMALLEST_NORM else 1.0 for norm in norms)
    return max(-1.0, min(1.0, float(sums[2]) / left / right))
