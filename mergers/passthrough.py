"""One expert's tensor as it is, or scaled: for merges that take layers from different models."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._plan import Weighted
from ._types import Count, Range

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def passthrough(
    experts: Annotated[Sequence[Tensor], Count(1, 1)], *, scale: Annotated[float, Range(-inf, inf)] = 1.0
) -> Tensor:
    """`scale * x`.

    Args:
        experts: exactly one tensor.
        scale: 1 leaves every bit as it is (mergekit's default, no scale, is the same).
    """
    return experts[0] * scale


def plan(tensor: Statistics, *, scale: float) -> Weighted:
    """The same as a weighted sum."""
    return Weighted(0.0, (scale,))
