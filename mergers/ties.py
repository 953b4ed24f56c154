"""TIES (arXiv:2306.01708): trim, elect a sign, merge those who agree. See `_combine`."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Annotated

from torch import Tensor

from ._combine import consensus
from ._deltas import trim
from ._types import Numbers, PerExpert, Range, per_expert


def ties(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (0.1, 1.0))] = 1.0,
    normalize: bool = True,
    rescale: bool = False,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
) -> Tensor:
    """Merge the largest entries of each difference `x_i - b`, by sign consensus.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert, in the election and in the sum; may be negative.
        density: share of entries kept, by magnitude over this tensor; above 0 keeps at least one.
        normalize: divide by the weights that agree, entry by entry.
        rescale: bring what is kept back to the L1 norm before trimming.
        lambda_: scale of the merged difference.
    """
    kept = per_expert(density, len(experts))
    deltas = (trim(tensor - base, share, rescale=rescale) for tensor, share in zip(experts, kept, strict=True))
    return consensus(base, deltas, per_expert(weight, len(experts)), normalize=normalize, lambda_=lambda_)
