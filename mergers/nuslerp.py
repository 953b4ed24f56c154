"""NuSLERP: spherical interpolation by two weights, over whole tensors or vector by vector, with or without a base."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from ._maths.sphere import Gram, asked, from_base, gram, norms, spherical, weighted
from ._plan import Blocks, Weighted
from ._types import Count, Numbers, PerExpert, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

_SMALLEST_SUM = 1e-6  # weights that sum to less count as equal
_SMALLEST_NORM = 1e-7  # a norm below this counts as this
_STRAIGHT = 1e-14
"""Up to this 1 - cos^2 vectors are interpolated in a straight line. mergekit's bound is 1e-16, which float64 dot
products cannot resolve: whether exactly opposite vectors get shares of 1/2 or of 1e8 would be left to rounding."""


def nuslerp(
    experts: Annotated[Sequence[Tensor], Count(2, 2)],
    base: Tensor | None = None,
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
) -> Tensor:
    """`[sin((1-t) a) y_1 + sin(t a) y_2] / sin(a)` with `t = w_2 / (w_1 + w_2)` and a the angle between y_1 and y_2.

    y_i is x_i, or `x_i - b` with a base, which is then added back. Parallel and opposite vectors are interpolated in
    a straight line.

    Args:
        experts: exactly two tensors of one shape.
        base: origin of the sphere; None for zero.
        weight: of each expert; only their ratio counts. Weights that sum to about 0 (below 1e-6) give t = 1/2.
        nuslerp_flatten: one angle for the whole tensor; else one for each vector along a dimension.
        nuslerp_row_wise: these vectors run along the first dimension instead of the last.
    """
    t = _position(per_expert(weight, 2))
    if nuslerp_flatten:
        return weighted(experts, _weighted(gram(experts, base), t, based=base is not None), base)
    dim = 0 if nuslerp_row_wise and experts[0].dim() else -1
    first, second = _vectors(base, experts)
    return _mixed(base, experts, 0, shares=_shares(_products(first, second, dim), t))


def plan(
    tensor: Statistics, *, weight: tuple[float, ...], nuslerp_flatten: bool, nuslerp_row_wise: bool
) -> Weighted | Blocks | None:
    """The same as a weighted sum, or on stretches of rows; None for vectors along the first of three dimensions."""
    t = _position(weight)
    if nuslerp_flatten:
        return _weighted(asked(tensor, deltas=tensor.has_base), t, based=tensor.has_base)
    if not nuslerp_row_wise or len(tensor.shape) < 2:
        return Blocks(partial(_by_row, t=t), whole_rows=True)
    if len(tensor.shape) > 2:
        return None
    found = torch.from_numpy(tensor.reduce(_by_column, key="nuslerp", whole_rows=True))
    return Blocks(partial(_mixed, shares=_shares(found, t)), whole_rows=True)


def _position(weight: Sequence[float]) -> float:
    total = weight[0] + weight[1]
    return 0.5 if abs(total) < _SMALLEST_SUM else weight[1] / total


def _weighted(products: Gram, t: float, *, based: bool) -> Weighted:
    left, right = (max(norm, _SMALLEST_NORM) for norm in norms(products))
    cosine = max(-1.0, min(1.0, products[0][1] / left / right))
    shares = spherical(cosine, t, straight=1.0 - cosine * cosine <= _STRAIGHT)
    return from_base(shares) if based else Weighted(0.0, shares)


def _vectors(base: Tensor | None, experts: Sequence[Tensor]) -> Sequence[Tensor]:
    return experts if base is None else [expert - base for expert in experts]


def _products(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """|x|^2, |y|^2 and x.y of the vectors along `dim`, which stays with length 1: rounded products, float64 sums."""
    return torch.stack([(u * v).sum(dim, keepdim=True, dtype=torch.float64) for u, v in ((x, x), (y, y), (x, y))])


def _by_column(base: Tensor | None, experts: Sequence[Tensor], start: int) -> Tensor:
    first, second = _vectors(base, experts)
    return _products(first, second, 0)


def _by_row(base: Tensor | None, experts: Sequence[Tensor], start: int, *, t: float) -> Tensor:
    first, second = _vectors(base, experts)
    return _mixed(base, experts, start, shares=_shares(_products(first, second, -1), t))


def _shares(products: Tensor, t: float) -> Tensor:
    """`_maths.sphere.spherical` for many pairs of vectors at once."""
    left, right, inner = products.unbind()
    left, right = (norm.sqrt().clamp(min=_SMALLEST_NORM) for norm in (left, right))
    cosine = (inner / left / right).clamp_(-1, 1)
    straight = 1 - cosine.square() <= _STRAIGHT
    angle = torch.where(straight, 1.0, torch.acos(cosine))
    pairs = ((1 - t, torch.sin((1 - t) * angle)), (t, torch.sin(t * angle)))
    return torch.stack([torch.where(straight, line, sine / torch.sin(angle)) for line, sine in pairs])


def _mixed(base: Tensor | None, experts: Sequence[Tensor], start: int, *, shares: Tensor) -> Tensor:
    first, second = _vectors(base, experts)
    left, right = shares.to(first).unbind()
    mixed = (left * first).add_(right * second)
    return mixed if base is None else mixed.add_(base)
