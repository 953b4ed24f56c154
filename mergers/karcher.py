"""Karcher mean: the point of the sphere nearest to all experts by squared arc length (arXiv:2603.04972)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from torch import Tensor

from ._errors import InputError
from ._maths.sphere import Gram, asked, gram, norms, weighted
from ._plan import Weighted
from ._types import Range

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

Numbers = np.ndarray[Any, np.dtype[np.float64]]

_RESOLVED = 1e-7  # a shorter mean of unit vectors is the rounding of its dot products (their float64 root)
_OPPOSITE = 1e-12  # 1 + cosine below which rounding decides which way leads from the mean to an expert


def karcher(
    experts: Sequence[Tensor],
    *,
    max_iter: Annotated[int, Range(0, inf)] = 10,
    tol: Annotated[float, Range(0.0, inf)] = 1e-5,
) -> Tensor:
    """The mean direction of the flattened experts, all alike, at their mean norm.

    Starts at the normalised mean m of the unit vectors u_i and repeats `m <- exp_m(mean of log_m(u_i))`. Every m is a
    combination of the inputs, so the iteration runs on its coefficients, through dot products. An expert of norm up to
    `tol` has no direction, but counts in the mean norm. An expert exactly opposite to m pulls nowhere: all ways to it
    are equally short.

    Args:
        experts: tensors of one shape.
        max_iter: most steps.
        tol: a step or an angle (radians) below it counts as 0.

    Raises:
        InputError: the directions cancel, so that there is nothing to start from. mergekit then starts from the first
            expert, which makes the result depend on the order, and for a pair on rounding.
    """
    return weighted(experts, _weighted(gram(experts), max_iter, tol))


def plan(tensor: Statistics, *, max_iter: int, tol: float) -> Weighted:
    """The same as a weighted sum."""
    return _weighted(asked(tensor, deltas=False), max_iter, tol)


def _weighted(products: Gram, max_iter: int, tol: float) -> Weighted:
    count, lengths = len(products), norms(products)
    if count == 1:
        return Weighted(0.0, (1.0,))
    valid = [index for index in range(count) if lengths[index] > tol]
    shares = [0.0] * count
    if valid:
        units = np.array([[products[i][j] / lengths[i] / lengths[j] for j in valid] for i in valid])
        mean, length = _mean(units, max_iter, tol), math.fsum(lengths) / count
        for index, share in zip(valid, mean.tolist(), strict=True):
            shares[index] = length * share / lengths[index]
    return Weighted(0.0, tuple(shares))


def _mean(cosines: Numbers, max_iter: int, tol: float) -> Numbers:
    """Coefficients of the mean over unit vectors with these cosines."""
    count = len(cosines)
    mean = np.full(count, 1.0 / count)
    length = _length(mean, cosines)
    if length < max(tol, _RESOLVED):
        raise InputError(
            f"karcher: the experts' directions cancel (mean of length {length:.1e}), so they have no mean direction;"
            " leave an expert out or merge by linear"
        )
    mean /= length
    for _ in range(int(max_iter)):
        tangent = np.zeros(count)
        for index, cosine in enumerate(np.clip(cosines @ mean, -1.0, 1.0)):
            angle = math.acos(cosine)
            if angle < tol or 1.0 + cosine < _OPPOSITE:
                continue
            step = angle / math.sin(angle) / count
            tangent[index] += step
            tangent -= step * cosine * mean
        size = _length(tangent, cosines)
        if size < tol or size == 0:
            break
        mean = math.cos(size) * mean + math.sin(size) / size * tangent
        mean /= _length(mean, cosines)
    return mean


def _length(coefficients: Numbers, cosines: Numbers) -> float:
    return math.sqrt(max(0.0, float(coefficients @ cosines @ coefficients)))
