"""NearSwap (alchemonaut, QuartetAnemoi-70B): the expert where it is near the base, the base where it is far."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._plan import Clipped
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
    limits = _clipped(t)
    return (experts[0] - base).mul_(limits.scale).clamp_(-limits.limit, limits.limit).add_(base)


def plan(tensor: Statistics, *, t: float) -> Clipped:
    """The same in one pass."""
    return _clipped(t)


def _clipped(t: float) -> Clipped:
    """`b + clamp(s d, -t, t)` with `s = min(1, t / 1e-6)`: the same numbers as `g x + (1 - g) b`."""
    return Clipped(min(1.0, t / _SMALLEST), t)
