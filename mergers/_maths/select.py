"""The first entries of a tensor by a computed quantity, exactly: largest first, equal ones by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._plan import NOTHING_YET, Rank

if TYPE_CHECKING:
    from .._execution.statistics import Statistics

Values = Callable[[Tensor | None, Sequence[Tensor], int], Tensor]
"""A non-negative quantity of each entry of a stretch."""

_BINS = 4096


def end(values: Tensor, count: int) -> Rank:
    """Where the first `count` entries of `values` end; `count` up to the number of entries."""
    if count <= 0:
        return NOTHING_YET
    flat = values.flatten()
    last = int(flat.argsort(descending=True, stable=True)[count - 1])
    return Rank(float(flat[last]), last)


def end_of(tensor: Statistics, values: Values, count: int, *, key: str) -> Rank:
    """The same of a quantity computed block by block; `key` names it, for answers to be remembered.

    Among entries equal to the threshold the position of the last one kept is found by counting them in ever smaller
    stretches, 4096 at a time: one pass up to 4096 entries, two up to 16 million, three up to 64 thousand million.
    """
    if count <= 0:
        return NOTHING_YET
    (threshold,) = tensor.order(values, (count - 1,), key=key)
    low, width, surplus = 0, tensor.size, -1
    while width > 1:
        step = -(-width // _BINS)

        def tally(
            base: Tensor | None,
            experts: Sequence[Tensor],
            start: int,
            low: int = low,
            high: int = low + width,
            step: int = step,
        ) -> Tensor:
            found = values(base, experts, start).flatten()
            places = (found == threshold).nonzero().flatten() + start
            bins = torch.bincount((places[(places >= low) & (places < high)] - low) // step, minlength=_BINS)
            return torch.cat(((found > threshold).sum().view(1), bins))

        above, *bins = (int(x) for x in tensor.reduce(tally, key=(key, count, low)))
        surplus = count - above if surplus < 0 else surplus
        index = 0
        while bins[index] < surplus:
            surplus -= bins[index]
            index += 1
        low, width = low + index * step, min(step, low + width - (low + index * step))
    return Rank(threshold, low)


def kept(values: Tensor, start: int, upto: Rank) -> Tensor:
    """Whether each entry of `values`, the first of which stands at `start`, is not after `upto`."""
    places = torch.arange(start, start + values.numel(), device=values.device).view_as(values)
    return (values > upto.threshold) | ((values == upto.threshold) & (places <= upto.last))
