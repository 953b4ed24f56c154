"""SCE (FuseChat, arXiv:2408.07990): select entries by variance, weigh by energy, erase minority signs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from ._maths.select import end, kept
from ._plan import Blocks, Rank
from ._types import Count, Range

if TYPE_CHECKING:
    from ._execution.statistics import Statistics

_SMALLEST = 1e-6  # mean squares that sum to less count as equal; the smallest sum of agreeing weights


def sce(
    base: Tensor,
    experts: Annotated[Sequence[Tensor], Count(1)],
    *,
    select_topk: Annotated[float, Range(0.0, 1.0, (0.1, 1.0))] = 1.0,
) -> Tensor:
    """`b + sum a_i m_i d_i / sum a_i m_i` over the selected entries of the differences `d_i = x_i - b`.

    Selected are the `int(select_topk * z)` entries of largest variance between the d_i, of z where it is not 0;
    entries of equal variance by position, the first first (mergekit's choice among them is open). a_i is the mean
    square of the selected d_i, all entries counted, divided by the sum over the experts; m_i is 1 where the sign of d_i
    is that of `sum d_i` (a zero sum counting as plus), and an entry that is exactly zero never agrees.

    As in mergekit the a_i are equal where the mean squares sum to less than 1e-6. Differences of fine-tuned models are
    often that small: weights of size 0.02 that moved by 1 % give 4e-8.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        select_topk: share of the entries that are selected; 1 selects all.
    """
    if not experts:
        return base.clone()
    upto = None
    if select_topk < 1:
        variance = _variance(base, experts, 0)
        upto = end(variance, int(int(variance.count_nonzero()) * select_topk))
    squares = _squares(base, experts, 0, upto=upto)
    return _apply(base, experts, 0, upto=upto, shares=_shares(squares.tolist(), base.numel()))


def plan(tensor: Statistics, *, select_topk: float) -> Blocks:
    """The same on stretches, after a look for the selection (none if `select_topk` is 1) and one for the weights."""

    def selected() -> Rank:
        variance = tensor.computed(_variance)
        return tensor.first(variance, int(int(variance.count_nonzero()) * select_topk))

    upto = tensor.remembered(("sce", select_topk), selected) if select_topk < 1 else None
    squares = tensor.reduce(partial(_squares, upto=upto), key=("sce", upto)).tolist()
    return Blocks(partial(_apply, upto=upto, shares=_shares(squares or [0.0] * tensor.experts, tensor.size)))


def _variance(base: Tensor | None, experts: Sequence[Tensor], start: int) -> Tensor:
    assert base is not None
    return _variance_of([expert - base for expert in experts])


def _variance_of(deltas: Sequence[Tensor]) -> Tensor:
    """Population variance between the differences, entry by entry: from the first one, so that equal ones give 0."""
    shifted = [delta - deltas[0] for delta in deltas[1:]]
    mean = torch.zeros_like(deltas[0])
    for value in shifted:
        mean.add_(value)
    mean.div_(len(deltas))
    total = mean.square()
    for value in shifted:
        total.add_(value.sub_(mean).square_())
    return total.div_(len(deltas))


def _selected(base: Tensor, experts: Sequence[Tensor], start: int, upto: Rank | None) -> list[Tensor]:
    deltas = [expert - base for expert in experts]
    if upto is not None:
        mask = kept(_variance_of(deltas), start, upto).to(base.dtype)
        deltas = [delta.mul_(mask) for delta in deltas]
    return deltas


def _squares(base: Tensor | None, experts: Sequence[Tensor], start: int, *, upto: Rank | None) -> Tensor:
    assert base is not None
    return torch.stack([delta.double().square_().sum() for delta in _selected(base, experts, start, upto)])


def _shares(squares: Sequence[float], size: int) -> tuple[float, ...]:
    means = [square / max(1, size) for square in squares]
    total = sum(means)
    return tuple(1.0 / len(means) if total < _SMALLEST else mean / total for mean in means)


def _apply(
    base: Tensor | None, experts: Sequence[Tensor], start: int, *, upto: Rank | None, shares: Sequence[float]
) -> Tensor:
    assert base is not None
    deltas = _selected(base, experts, start, upto)
    sign = torch.zeros_like(base)
    for delta in deltas:
        sign.add_(delta)
    sign.ge_(0).mul_(2).sub_(1)
    mixed, divisor, agrees = torch.zeros_like(base), torch.zeros_like(base), torch.empty_like(base)
    for delta, share in zip(deltas, shares, strict=True):
        delta.mul_(sign)  # positive where it agrees
        divisor.add_(torch.gt(delta, 0, out=agrees), alpha=share)
        mixed.add_(delta.clamp_(min=0), alpha=share)
    return mixed.div_(divisor.clamp_(min=_SMALLEST)).mul_(sign).add_(base)
