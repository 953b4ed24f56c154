"""Spherical interpolation between two experts (Shoemake, Animating rotation with quaternion curves, 1985)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.sphere import Gram, asked, gram, norms, spherical, weighted
from ._plan import Weighted
from ._types import Count, Range

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

_COLINEAR = 0.9995  # beyond this |cosine| mergekit interpolates in a straight line
_SMALLEST_NORM = 1e-8  # a norm up to this counts as 1


def slerp(
    experts: Annotated[Sequence[Tensor], Count(2, 2)], *, t: Annotated[float, Range(0.0, 1.0, (0.0, 1.0))]
) -> Tensor:
    """`[sin((1-t) w) x_1 + sin(t w) x_2] / sin(w)`, with w the angle between the flattened tensors.

    The coefficients apply to the tensors as they are, not to unit vectors. Nearly parallel or opposite
    tensors (|cos w| > 0.9995) are interpolated in a straight line.

    Args:
        experts: exactly two tensors of one shape.
        t: 0 gives the first, 1 the second.
    """
    return weighted(experts, _weighted(gram(experts), t))


def plan(tensor: Statistics, *, t: float) -> Weighted:
    """The same as a weighted sum."""
    return _weighted(asked(tensor, deltas=False), t)


def _weighted(products: Gram, t: float) -> Weighted:
    left, right = (norm if norm > _SMALLEST_NORM else 1.0 for norm in norms(products))
    cosine = max(-1.0, min(1.0, products[0][1] / left / right))
    return Weighted(0.0, spherical(cosine, t, straight=abs(cosine) > _COLINEAR))
