"""Sparsified task vectors: what ties and dare make of an expert's difference from the base.

The functions take a delta that the caller owns and return it changed in place, or return a new tensor.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ._draw import Draw

_SMALLEST_NORM = 1e-7  # below it mergekit leaves the survivors as they are


def trim(delta: Tensor, density: float, *, rescale: bool) -> Tensor:
    """Keep the entries of largest magnitude over the whole tensor, zero the rest.

    Kept are `max(1, int(density * n))` entries, by float32 magnitude; `density` >= 1 keeps all, <= 0 none. Entries
    that tie at the threshold are kept in row-major order until the count is full; mergekit's sort is not stable, so
    there it is open which of them survive. `rescale`: see `_masked`.
    """
    if density >= 1:
        return delta
    if density <= 0 or delta.numel() == 0:
        return delta.zero_()
    keep = max(1, int(density * delta.numel()))
    magnitude = delta.abs().float().flatten()
    threshold = kth_largest(magnitude, keep)
    kept = torch.ge(magnitude, threshold, out=torch.empty_like(magnitude))
    surplus = int(kept.sum(dtype=torch.float64)) - keep
    if surplus and threshold > 0:
        kept[(magnitude == threshold).nonzero().flatten()[-surplus:]] = 0
    return _masked(delta, kept.reshape(delta.shape), rescale=rescale)


def drop(delta: Tensor, density: float, draw: Draw, index: int, *, rescale: bool) -> Tensor:
    """Keep each entry with probability `density`, independently (DARE, arXiv:2311.03099); zero the rest.

    `density` >= 1 keeps all and draws nothing. `rescale`: see `_masked`.
    """
    if density >= 1:
        return delta
    return _masked(delta, draw.uniform(delta.shape, index, delta.device).lt_(density), rescale=rescale)


def kth_largest(values: Tensor, k: int) -> float:
    """The k-th largest (k >= 1) of a 1-D float32 tensor of finite numbers."""
    position = values.numel() - k
    if values.device.type == "cpu":
        # Of 0.5 M numbers numpy selects in 0.4 of the time of torch.kthvalue, and in a third of the memory.
        return float(np.partition(values.numpy(), position)[position])
    return float(torch.kthvalue(values, position + 1).values)


def _masked(delta: Tensor, kept: Tensor, *, rescale: bool) -> Tensor:
    """`delta` times the 0-1 mask `kept`; if `rescale`, times sum|before| / sum|after| (mergekit; not 1/density).

    Sums are accumulated in float64: a float32 sum depends on the number of threads, and so would the merge's
    bytes.
    """
    before = float(delta.abs().sum(dtype=torch.float64)) if rescale else 0.0
    delta.mul_(kept)
    after = float(delta.abs().sum(dtype=torch.float64)) if rescale else 0.0
    return delta if before < _SMALLEST_NORM or after < _SMALLEST_NORM else delta.mul_(before / after)
