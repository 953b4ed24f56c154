"""Task arithmetic (arXiv:2212.04089): add the experts' differences from the base."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.combine import direct_sum
from ._maths.deltas import Thinned
from ._maths.sparse import direct, everything
from ._plan import Sparse
from ._types import DividesBySum, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def task_arithmetic(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.2))],
    normalize: Annotated[bool, DividesBySum("weight")] = False,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
) -> Tensor:
    """`b + lambda * sum w_i (x_i - b)`, the sum divided by `sum w_i` if `normalize`.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert's difference; may be negative (forgetting).
        normalize: divide by the sum of the weights, unless that is about 0.
        lambda_: scale of the whole sum.
    """
    deltas = (Thinned(tensor - base) for tensor in experts)
    return direct_sum(base, deltas, per_expert(weight, len(experts)), normalize=normalize, lambda_=lambda_)


def plan(tensor: Statistics, *, weight: Sequence[float], normalize: bool, lambda_: float) -> Sparse:
    """The same as differences, each exact where expert and base are within a factor of two.

    A weighted sum of the tensors themselves would cost as much and round at their size.
    """
    return direct(everything(tensor.experts), weight, normalize=normalize, lambda_=lambda_)
