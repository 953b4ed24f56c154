"""Weighted average of the experts (model soups, arXiv:2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._errors import InputError
from ._plan import Weighted
from ._types import DividesBySum, Numbers, PerExpert, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def linear(
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    normalize: Annotated[bool, DividesBySum("weight")] = True,
) -> Tensor:
    """`sum w_i x_i`, divided by `sum w_i` if `normalize`. One expert at weight 1 comes back bit for bit.

    Args:
        experts: tensors of one shape.
        weight: share of each expert; may be negative.
        normalize: divide by the sum of the weights; a sum of zero then gives inf and nan, as it does in
            mergekit.
    """
    shares = per_expert(weight, len(experts))
    mixed = experts[0] * shares[0]
    for index in range(1, len(shares)):
        mixed.add_(experts[index], alpha=shares[index])
    return mixed.div_(sum(shares)) if normalize else mixed


def plan(tensor: Statistics, *, weight: tuple[float, ...], normalize: bool) -> Weighted:
    """The same as a weighted sum; the weights are divided before they meet the tensors.

    Raises:
        InputError: weights that sum to zero are to be normalised.
    """
    total = sum(weight) if normalize else 1.0
    if total == 0:
        raise InputError(f"linear: normalize divides by the sum of weight, which is 0 for {weight}; change a weight")
    return Weighted(0.0, tuple(share / total for share in weight))
