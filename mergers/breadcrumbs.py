"""Model Breadcrumbs (arXiv:2312.06795): add the task vectors without outliers and without small entries."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.combine import direct_sum
from ._maths.deltas import cut
from ._maths.sparse import banded, direct
from ._plan import Sparse
from ._types import DividesBySum, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def breadcrumbs(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.2))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (6 / 64, 1.0), 1 / 64)] = 1.0,
    gamma: Annotated[Numbers, PerExpert(0.0, 1.0)] = 0.01,
    normalize: Annotated[bool, DividesBySum("weight")] = False,
    rescale: bool = False,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
) -> Tensor:
    """`b + lambda * sum w_i s_i`, with s_i a band of magnitudes of the difference `x_i - b`.

    The paper and mergekit agree here: in the paper's terms density is the width of the band of magnitudes kept, and
    all weights are one (its alpha). Both cut each tensor for itself; the authors' code cuts each row.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert's difference; may be negative.
        density: share of entries kept; 1 keeps all, outliers too.
        gamma: share of entries dropped as outliers, the largest; fewer where density + gamma exceeds 1.
        normalize: divide by the sum of the weights, unless that is about 0.
        rescale: bring what is kept back to the L1 norm before cutting (off in the paper).
        lambda_: scale of the whole sum.
    """
    shares, kept, outliers = (per_expert(value, len(experts)) for value in (weight, density, gamma))
    deltas = (
        cut(tensor - base, share, top, rescale=rescale)
        for tensor, share, top in zip(experts, kept, outliers, strict=True)
    )
    return direct_sum(base, deltas, shares, normalize=normalize, lambda_=lambda_)


def plan(
    tensor: Statistics,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    gamma: Sequence[float],
    normalize: bool,
    rescale: bool,
    lambda_: float,
) -> Sparse:
    """The same as exact magnitude thresholds."""
    kept = banded(tensor, density, gamma, rescale=rescale)
    return direct(kept, weight, normalize=normalize, lambda_=lambda_)
