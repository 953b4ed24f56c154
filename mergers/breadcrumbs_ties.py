"""Model Breadcrumbs (arXiv:2312.06795) with the sign consensus of TIES (arXiv:2306.01708)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.combine import consensus
from ._maths.deltas import cut
from ._maths.sparse import banded, elected
from ._plan import Sparse
from ._types import Choice, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def breadcrumbs_ties(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (6 / 64, 1.0), 1 / 64)] = 1.0,
    gamma: Annotated[Numbers, PerExpert(0.0, 1.0)] = 0.01,
    normalize: bool = False,
    rescale: bool = False,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
    convention: Annotated[str, Choice(("mergekit", "paper"))] = "mergekit",
) -> Tensor:
    """Merge a band of magnitudes of each difference `x_i - b`, by sign consensus.

    mergekit's combination of breadcrumbs with TIES; no paper describes it.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert, in the sum and (mergekit) in the election; may be negative.
        density: share of entries kept; 1 keeps all, outliers too.
        gamma: share of entries dropped as outliers, the largest; fewer where density + gamma exceeds 1.
        normalize: divide, entry by entry, by the weights that agree (mergekit) or by their number (paper).
        rescale: bring what is kept back to the L1 norm before cutting.
        lambda_: scale of the merged difference.
        convention: of the consensus. `mergekit` elects on weighted differences, `paper` (TIES's) on the differences
            themselves.
    """
    shares, kept, outliers = (per_expert(value, len(experts)) for value in (weight, density, gamma))
    deltas = (
        cut(tensor - base, share, top, rescale=rescale)
        for tensor, share, top in zip(experts, kept, outliers, strict=True)
    )
    return consensus(base, deltas, shares, normalize=normalize, lambda_=lambda_, paper=convention == "paper")


def plan(
    tensor: Statistics,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    gamma: Sequence[float],
    normalize: bool,
    rescale: bool,
    lambda_: float,
    convention: str,
) -> Sparse:
    """The same as exact magnitude thresholds."""
    kept = banded(tensor, density, gamma, rescale=rescale)
    return elected(kept, weight, normalize=normalize, lambda_=lambda_, paper=convention == "paper")
