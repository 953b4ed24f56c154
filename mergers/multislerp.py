"""Multi-SLERP: weighted mean direction of several experts on the sphere, at their weighted mean length (mergekit)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._errors import InputError
from ._maths.sphere import Gram, asked, from_base, gram, norms, weighted
from ._plan import Weighted
from ._types import DividesBySum, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

_RESOLVED = 1e-7  # a shorter mean of unit vectors is the rounding of its dot products (their float64 root)


def multislerp(
    experts: Sequence[Tensor],
    base: Tensor | None = None,
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    normalize_weights: Annotated[bool, DividesBySum("weight")] = True,
    eps: Annotated[float, Range(0.0, inf)] = 1e-8,
) -> Tensor:
    """`cos(eps) N M / |M|` with `M = sum w_i y_i / (|y_i| + eps)` and `N = sum w_i |y_i|`.

    y_i is x_i flattened, or `x_i - b` with a base, which is then added back. mergekit goes on from M to the weighted
    sum r of the unit vectors' tangents at M; that sum is zero by M's definition (`sum w_i (u_i - (u_i.m) m) =
    M - (M.m) m = 0`), so its exponential map turns M by eps and no more. One expert comes back as it is.

    Args:
        experts: tensors of one shape.
        base: origin of the sphere; None for zero.
        weight: of each expert; may be negative.
        normalize_weights: divide the weights by their sum, which must not be 0.
        eps: added to each norm; the smallest length of M.

    Raises:
        InputError: three or more directions cancel, so that there is no mean (two are interpolated in a straight line).
    """
    shares = per_expert(weight, len(experts))
    found = _weighted(gram(experts, base), shares, normalize_weights, eps, based=base is not None)
    return weighted(experts, found, base)


def plan(tensor: Statistics, *, weight: tuple[float, ...], normalize_weights: bool, eps: float) -> Weighted:
    """The same as a weighted sum."""
    products = asked(tensor, deltas=tensor.has_base)
    return _weighted(products, weight, normalize_weights, eps, based=tensor.has_base)


def _weighted(products: Gram, weight: Sequence[float], normalize: bool, eps: float, *, based: bool) -> Weighted:
    if len(weight) == 1:
        return Weighted(0.0, (1.0,))
    total = math.fsum(weight) if normalize else 1.0
    if total == 0:
        raise InputError(f"multislerp: normalize_weights divides by the sum of weight, 0 for {weight}; change a weight")
    shares = _shares(products, [share / total for share in weight], eps)
    return from_base(shares) if based else Weighted(0.0, shares)


def _shares(products: Gram, weight: Sequence[float], eps: float) -> tuple[float, ...]:
    lengths = norms(products)
    if not any(lengths):  # nothing to turn: all differences are zero, as for a layer that no expert trained
        return tuple(weight)
    scaled = [share / (length + eps) if length else 0.0 for share, length in zip(weight, lengths, strict=True)]
    pairs = product(range(len(scaled)), repeat=2)
    length = math.sqrt(max(0.0, math.fsum(scaled[i] * scaled[j] * products[i][j] for i, j in pairs)))
    if length < max(eps, _RESOLVED * math.fsum(map(abs, weight))):
        if len(weight) == 2:
            return tuple(weight)
        raise InputError(
            f"multislerp: the experts' weighted directions cancel (mean of length {length:.1e});"
            " give weights that do not balance opposite experts"
        )
    mean = math.fsum(share * norm for share, norm in zip(weight, lengths, strict=True))
    return tuple(math.cos(eps) * mean * share / length for share in scaled)
