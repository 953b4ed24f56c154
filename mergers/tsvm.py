"""Task singular vectors merging (TSV-M, arXiv:2412.00081): every task keeps its share of the rank, without overlap."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Annotated

import torch
from torch import Tensor

from ._maths.singular import joined, leading
from ._types import Range


def tsvm(
    base: Tensor, experts: Sequence[Tensor], *, lambda_: Annotated[float, Range(-inf, inf, (0.0, 1.5))] = 1.0
) -> Tensor:
    """`b + lambda * U S V^T` for matrices; `b + lambda * mean(x_i - b)` for tensors of any other number of dimensions.

    With k experts and r = min(rows, columns), the first `floor(r / k)` singular triplets of each `x_i - b` are put side
    by side, and U and V replaced by the nearest matrices with orthonormal columns. A matrix with fewer rows or columns
    than there are experts leaves no rank to anyone, and stays the base's.

    Where the definition is open, by singular values of 0 or by experts that share a direction exactly, the vectors in
    question are left out (`_singular`); so equal experts give the truncated difference back.

    Takes k + 2 SVDs of whole matrices, in float64: minutes, not milliseconds, for a large model. The last bit of an
    entry may depend on the linear algebra library and its number of threads.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        lambda_: scale of the merged difference (the paper's alpha).
    """
    deltas = [(expert - base).double() for expert in experts]
    if base.numel() == 0:
        return base.clone()
    if base.dim() == 2:
        share = min(base.shape) // len(experts)
        merged = joined([leading(delta, share) for delta in deltas])
    else:
        merged = torch.stack(deltas).mean(0)
    return base + merged.mul_(lambda_).to(base.dtype)
