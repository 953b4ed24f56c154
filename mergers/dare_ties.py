"""DARE with sign consensus (arXiv:2311.03099): drop at random, rescale, merge those who agree."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Annotated

from torch import Tensor

from ._combine import consensus
from ._deltas import drop
from ._draw import Draw
from ._types import Numbers, PerExpert, Range, per_expert


def dare_ties(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (0.1, 1.0))] = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
    draw: Draw,
) -> Tensor:
    """Merge randomly thinned differences `x_i - b`, by sign consensus.

    The masks belong to (seed, tensor name, expert's position): changing the order of the experts changes
    them.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert, in the election and in the sum; may be negative.
        density: probability that an entry is kept.
        normalize: divide by the weights that agree, entry by entry.
        rescale: bring what is kept back to the L1 norm before dropping (mergekit; the paper divides by the
            density).
        lambda_: scale of the merged difference.
        draw: random numbers of this tensor.
    """
    kept = per_expert(density, len(experts))
    deltas = (
        drop(tensor - base, share, draw, index, rescale=rescale)
        for index, (tensor, share) in enumerate(zip(experts, kept, strict=True))
    )
    return consensus(base, deltas, per_expert(weight, len(experts)), normalize=normalize, lambda_=lambda_)
