"""Sparsified task vectors: what ties, DARE, breadcrumbs and DELLA make of an expert's difference from the base.

The functions take a difference that the caller owns, and overwrite it. What they keep comes with one number that it is
still to be multiplied by, so that rescaling and weight are one product and one rounding.

"Largest" is by magnitude, entries of equal magnitude in row-major order; mergekit's sorts are not stable, so there it
is open which of them are kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._rules import band_counts, keep_probabilities, rescaling, trim_count
from .draw import LEVELS, Draw, threshold

_BLOCK = 1 << 20  # entries ranked at a time: a sort's indices take eight bytes each


class Thinned(NamedTuple):
    """What is kept of a difference, zero elsewhere, and the factor it is to be multiplied by."""

    delta: Tensor
    scale: float = 1.0


def trim(delta: Tensor, density: float, *, rescale: bool) -> Thinned:
    """Keep the `max(1, int(density * n))` largest entries of the whole tensor (TIES, arXiv:2306.01708).

    A density of 1 keeps all, of 0 none. `rescale`: to the L1 norm before.
    """
    if density >= 1:
        return Thinned(delta)
    return _masked(delta, largest(delta, trim_count(density, delta.numel())), rescale=rescale)


def cut(delta: Tensor, density: float, gamma: float, *, rescale: bool) -> Thinned:
    """Keep the `int(density * n)` largest entries after the outliers (Model Breadcrumbs, arXiv:2312.06795).

    Outliers are the `int(gamma * n)` largest, fewer where that leaves too few; a density of 1 keeps them too.
    `rescale`: to the L1 norm before.
    """
    if density >= 1:
        return Thinned(delta)
    above, upto = band_counts(density, gamma, delta.numel())
    return _masked(delta, largest(delta, upto).sub_(largest(delta, above)), rescale=rescale)


def drop(delta: Tensor, density: float, draw: Draw, index: int, *, rescale: bool, paper: bool) -> Thinned:
    """Keep each entry with probability `density`, independently (DARE, arXiv:2311.03099).

    A density of 1 keeps all, of 0 none; neither draws. `rescale`: to the L1 norm before, or by 1 / density (`paper`).
    """
    if density >= 1:
        return Thinned(delta)
    if density <= 0:
        return Thinned(delta.zero_())
    kept = draw.bits(delta.numel(), index, delta.device).view(delta.shape) < threshold(density)
    thinned = _masked(delta, kept, rescale=rescale and not paper)
    return Thinned(thinned.delta, 1.0 / density) if rescale and paper else thinned


def sample(
    delta: Tensor,
    density: float,
    epsilon: float,
    draw: Draw,
    index: int,
    *,
    rescale: bool,
    paper: bool,
    start: int = 0,
) -> Thinned:
    """Keep an entry with a probability that rises with its rank in its row (MAGPRUNE, arXiv:2406.11617).

    From `density - epsilon` for the smallest of a row to `density + epsilon` for the largest; `density` in a row of
    one. A 1-D tensor is one row. In a tensor of more than two dimensions ranks run along dimension 1, as in mergekit.
    A density of 1 keeps all, of 0 none; neither draws.

    `rescale`: to the L1 norm before, or each survivor by its own 1 / probability (`paper`). `start`: position in the
    whole tensor of `delta`'s first entry, where `delta` is only some of its rows.

    Raises:
        InputError: see `keep_probabilities`.
    """
    if density >= 1:
        return Thinned(delta)
    if density <= 0 or delta.numel() == 0:
        return Thinned(delta.zero_())
    low, high = keep_probabilities(density, epsilon)
    delta = delta.contiguous()
    before = _norm(delta) if rescale and not paper else 0.0
    bits = draw.bits(delta.numel(), index, delta.device, start=start).view(delta.shape)
    if delta.ndim > 2:
        turned, bits = delta.movedim(1, -1), bits.movedim(1, -1)
        rows = turned.clone(memory_format=torch.contiguous_format).view(-1, turned.shape[-1])
        sample_rows(rows, bits.reshape(rows.shape), low, high, divide=rescale and paper)
        turned.copy_(rows.view(turned.shape))
    else:
        columns = delta.shape[-1] if delta.ndim else 1
        sample_rows(delta.view(-1, columns), bits.view(-1, columns), low, high, divide=rescale and paper)
    return Thinned(delta, rescaling(before, _norm(delta)) if rescale and not paper else 1.0)


def sample_rows(delta: Tensor, bits: Tensor, low: float, high: float, *, divide: bool) -> None:
    """MAGPRUNE on whole rows, in place.

    Args:
        delta: rows by columns.
        bits: random bits of these entries, same shape.
        low: keep probability of a row's smallest entry.
        high: keep probability of its largest.
        divide: each survivor by its keep probability.
    """
    columns = delta.shape[1]
    ranks = torch.arange(columns - 1, -1, -1, dtype=torch.float64, device=delta.device)  # largest first
    chances = low + (high - low) * ranks / (columns - 1) if columns > 1 else torch.full_like(ranks, (low + high) / 2)
    levels = chances.mul(LEVELS).add_(0.5).floor_().clamp_(1, LEVELS - 1).to(bits.dtype)
    factors = chances.reciprocal().to(delta.dtype)
    step = max(1, _BLOCK // columns)
    for start in range(0, delta.shape[0], step):
        part = delta[start : start + step]
        order = part.abs().argsort(dim=1, descending=True, stable=True)
        wanted = torch.empty_like(order, dtype=bits.dtype).scatter_(1, order, levels.expand_as(order))
        part.mul_(bits[start : start + step] < wanted)
        if divide:
            part.mul_(torch.empty_like(part).scatter_(1, order, factors.expand_as(order)))


def largest(values: Tensor, count: int) -> Tensor:
    """A mask, 1 for the `count` entries of largest float32 magnitude and 0 for the rest, float32 in `values`' shape."""
    if count <= 0 or count >= values.numel():
        return torch.full(values.shape, float(count > 0), dtype=torch.float32, device=values.device)
    magnitude = values.abs().float().flatten()
    limit = kth_largest(magnitude, count)
    kept = torch.ge(magnitude, limit, out=torch.empty_like(magnitude))
    surplus = int(kept.sum(dtype=torch.float64)) - count
    if surplus:
        kept[(magnitude == limit).nonzero().flatten()[-surplus:]] = 0
    return kept.view(values.shape)


def kth_largest(values: Tensor, k: int) -> float:
    """The k-th largest (k >= 1) of a 1-D float32 tensor of finite numbers."""
    position = values.numel() - k
    if values.device.type == "cpu":
        # Of 0.5 M numbers numpy selects in 0.4 of the time of torch.kthvalue, and in a third of the memory.
        return float(np.partition(values.numpy(), position)[position])
    return float(torch.kthvalue(values, position + 1).values)


def _masked(delta: Tensor, kept: Tensor, *, rescale: bool) -> Thinned:
    before = _norm(delta) if rescale else 0.0
    delta.mul_(kept)
    return Thinned(delta, rescaling(before, _norm(delta)) if rescale else 1.0)


def _norm(delta: Tensor) -> float:
    """Sum of magnitudes, in float64: a float32 sum depends on the number of threads, and so would the merge's bytes."""
    return float(delta.abs().sum(dtype=torch.float64))
