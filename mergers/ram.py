"""Reinforced Agent Merging (RAM, arXiv:2601.13572): what one expert alone changed stays whole, the rest is averaged."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.overlap import overlap
from ._plan import Touched
from ._types import Range

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def ram(base: Tensor, experts: Sequence[Tensor], *, epsilon: Annotated[float, Range(0.0, inf)] = 1e-5) -> Tensor:
    """`b +` the mean of the differences `x_i - b` of those experts that touch the entry (`|x_i - b| > epsilon`).

    An entry that one expert touches gets its whole difference; one that none touches stays the base's.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        epsilon: a difference up to this is none.
    """
    return overlap(base, experts, 0, epsilon=epsilon, scales=(1.0,) * len(experts))


def plan(tensor: Statistics, *, epsilon: float) -> Touched:
    """The same in one pass."""
    return Touched(epsilon, (1.0,) * tensor.experts)
