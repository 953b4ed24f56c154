"""The first entries of a tensor by a computed quantity, exactly: largest first, equal ones by position."""

from __future__ import annotations

import torch
from torch import Tensor

from .._plan import NOTHING_YET, Rank


def end(values: Tensor, count: int) -> Rank:
    """Where the first `count` entries of `values` end; `count` up to the number of entries."""
    if count <= 0:
        return NOTHING_YET
    flat = values.flatten()
    last = int(flat.argsort(descending=True, stable=True)[count - 1])
    return Rank(float(flat[last]), last)


def kept(values: Tensor, start: int, upto: Rank) -> Tensor:
    """Whether each entry of `values`, the first of which stands at `start`, is not after `upto`."""
    places = torch.arange(start, start + values.numel(), device=values.device).view_as(values)
    return (values > upto.threshold) | ((values == upto.threshold) & (places <= upto.last))
