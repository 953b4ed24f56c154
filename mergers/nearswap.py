"""NearSwap (alchemonaut, QuartetAnemoi-70B): the expert where it is near the base, the base where it is far."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from ._plan import Blocks
from ._types import Count, Range

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

_SMALLEST = 1e-6  # a smaller difference counts as this


def nearswap(
    base: Tensor,
    experts: Annotated[Sequence[Tensor], Count(1, 1)],
    *,
    t: Annotated[float, Range(0.0, inf, (0.0, 0.01))],
) -> Tensor:
    """`g x + (1 - g) b` with `g = min(1, t / |x - b|)`, entry by entry: no entry moves by more than t.

    Args:
        base: the tensor to move from.
        experts: exactly one tensor, shaped as `base`.
        t: the largest move, in the weights' own units; 0 gives the base. Differences below 1e-6 count as 1e-6.
    """
    return _apply(base, experts, 0, t=t)


def plan(tensor: Statistics, *, t: float) -> Blocks:
    """The same on stretches."""
    return Blocks(partial(_apply, t=t))


def _apply(base: Tensor | None, experts: Sequence[Tensor], start: int, *, t: float) -> Tensor:
    """`b + clamp(d s, -t, t)` with `s = min(1, t / 1e-6)`: the same numbers as `g x + (1 - g) b`, in four passes."""
    assert base is not None
    delta = torch.sub(experts[0], base)
    if t < _SMALLEST:
        delta.mul_(t / _SMALLEST)
    return delta.clamp_(-t, t).add_(base)
