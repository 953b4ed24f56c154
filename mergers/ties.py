"""TIES (arXiv:2306.01708): trim, elect a sign, merge those who agree. See `_combine`."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.combine import consensus
from ._maths.deltas import trim
from ._maths.sparse import elected, trimmed
from ._plan import Sparse
from ._types import Choice, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def ties(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (6 / 64, 1.0), 1 / 64)] = 1.0,
    normalize: bool = True,
    rescale: bool = False,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
    convention: Annotated[str, Choice(("mergekit", "paper"))] = "mergekit",
) -> Tensor:
    """Merge the largest entries of each difference `x_i - b`, by sign consensus.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert, in the sum and (mergekit) in the election; may be negative.
        density: share of entries kept, by magnitude over this tensor; above 0 keeps at least one.
        normalize: divide, entry by entry, by the weights that agree (mergekit) or by their number (paper).
        rescale: bring what is kept back to the L1 norm before trimming (mergekit only knows this; off in the paper).
        lambda_: scale of the merged difference.
        convention: `mergekit` elects on weighted differences, `paper` on the differences themselves. Both trim each
            tensor for itself; the paper trims by one threshold over the whole model, which is not offered.
    """
    paper = convention == "paper"
    kept = per_expert(density, len(experts))
    deltas = (trim(tensor - base, share, rescale=rescale) for tensor, share in zip(experts, kept, strict=True))
    shares = per_expert(weight, len(experts))
    return consensus(base, deltas, shares, normalize=normalize, lambda_=lambda_, paper=paper)


def plan(
    tensor: Statistics,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool,
    rescale: bool,
    lambda_: float,
    convention: str,
) -> Sparse:
    """The same as exact magnitude thresholds."""
    kept = trimmed(tensor, density, rescale=rescale)
    return elected(kept, weight, normalize=normalize, lambda_=lambda_, paper=convention == "paper")
