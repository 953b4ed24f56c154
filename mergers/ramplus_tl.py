"""RAM+ (arXiv:2601.13572) with tensor-local counts: RAM that amplifies what one expert alone changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.overlap import counts, overlap
from ._plan import Touched
from ._types import Range

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def ramplus_tl(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    epsilon: Annotated[float, Range(0.0, inf)] = 1e-5,
    r: Annotated[float, Range(-inf, inf)] = 0.1,
    alpha: Annotated[float, Range(0.0, inf)] = 0.2,
) -> Tensor:
    """As `ram`, but what expert i alone touches is multiplied by `1 + r min(alpha, shared_i / alone_i)`.

    shared_i and alone_i count the entries of this tensor that expert i touches together with others and alone.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        epsilon: a difference up to this is none; also the smallest value of alone_i.
        r: strength of the amplification.
        alpha: largest ratio that counts.
    """
    scales = _scales(counts(base, experts, 0, epsilon=epsilon), epsilon, r, alpha)
    return overlap(base, experts, 0, epsilon=epsilon, scales=scales)


def plan(tensor: Statistics, *, epsilon: float, r: float, alpha: float) -> Touched:
    """The same in one pass, after one that counts."""
    found = tensor.reduce(partial(counts, epsilon=epsilon), key=("overlap", epsilon)).tolist()
    scales = _scales(found or [0.0] * 2 * tensor.experts, epsilon, r, alpha)
    return Touched(epsilon, scales)


def _scales(found: Sequence[float], epsilon: float, r: float, alpha: float) -> tuple[float, ...]:
    half = len(found) // 2
    pairs = zip(found[:half], found[half:], strict=True)
    return tuple(1.0 + r * _ratio(shared, max(alone, epsilon), alpha) for shared, alone in pairs)


def _ratio(shared: float, alone: float, alpha: float) -> float:
    if shared == 0:
        return 0.0
    return min(alpha, shared / alone) if alone else alpha
