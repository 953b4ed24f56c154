"""What a plan means, in plain torch: the readable reference of every fused kernel, and the executor of last resort.

Works on any device and on any floating-point types. Tensors are flat, contiguous and on one device, the inputs and the
output of equal length. A stretch of entries is read, computed in float32, rounded once into the output and forgotten.

Every product and every sum is rounded to float32 by itself (`a + c * x`, never `torch.add(a, x, alpha=c)`, which may
fuse the two), in the order of the experts. Kernels that do the same give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..._maths.draw import Draw
from ..._maths.overlap import overlap
from ..._plan import Band, Clipped, Everything, Mask, Nothing, Random, Rank, Ranked, Sparse, Touched, Weighted

_CPU_BLOCK, _DEVICE_BLOCK = 1 << 16, 1 << 20  # entries: a CPU's second-level cache, a device's launch overhead


def weighted(
    base: Tensor | None, experts: Sequence[Tensor], plan: Weighted, out: Tensor, start: int = 0, stop: int | None = None
) -> int:
    """Write the weighted sum of entries start .. stop - 1 into those of `out`.

    Args:
        base: flat; None where the plan has no use for one.
        experts: flat, one or more.
        plan: what to compute.
        out: flat; overwritten in [start, stop).
        start: first entry.
        stop: one past the last entry; None: the tensor's end.

    Returns:
        How many of the entries written are not finite.
    """
    broken = 0
    for low, high in _stretches(out, start, stop):
        terms = [] if base is None or plan.base == 0 else [_single(plan.base) * base[low:high].float()]
        terms += [_single(c) * x[low:high].float() for c, x in zip(plan.experts, experts, strict=True)]
        broken += _write(_sum(terms), out[low:high])
    return broken


def sparse(
    base: Tensor,
    experts: Sequence[Tensor],
    plan: Sparse,
    out: Tensor,
    start: int = 0,
    stop: int | None = None,
    keys: Sequence[Tensor | None] = (),
) -> int:
    """Write the merge of masked differences of entries start .. stop - 1 into those of `out`.

    Args:
        base: flat.
        experts: flat, one or more.
        plan: what to compute.
        out: flat; overwritten in [start, stop).
        start: first entry.
        stop: one past the last entry; None: the tensor's end.
        keys: per expert with a `Ranked` mask, as long as `out`: uint8, kept where 0; None or absent for the others.

    Returns:
        How many of the entries written are not finite.
    """
    broken = 0
    combine = _elected if plan.consensus else _summed
    for low, high in _stretches(out, start, stop):
        origin = base[low:high].float()
        deltas = []
        for i, (expert, mask) in enumerate(zip(experts, plan.masks, strict=True)):
            delta = expert[low:high].float() - origin
            key = keys[i] if i < len(keys) else None
            deltas.append(torch.where(kept(mask, delta, low, key), delta, 0.0))
        broken += _write(origin + _single(plan.lambda_) * combine(deltas, plan), out[low:high])
    return broken


def clipped(base: Tensor, expert: Tensor, plan: Clipped, out: Tensor, start: int = 0, stop: int | None = None) -> int:
    """Write the base moved by the clipped difference into entries start .. stop - 1 of `out`; see `weighted`."""
    broken = 0
    for low, high in _stretches(out, start, stop):
        delta = (expert[low:high].float() - base[low:high].float()).mul_(_single(plan.scale))
        broken += _write(delta.clamp_(-plan.limit, plan.limit).add_(base[low:high].float()), out[low:high])
    return broken


def touched(
    base: Tensor, experts: Sequence[Tensor], plan: Touched, out: Tensor, start: int = 0, stop: int | None = None
) -> int:
    """Write the differences of those that touch an entry into entries start .. stop - 1 of `out`; see `weighted`."""
    broken = 0
    for low, high in _stretches(out, start, stop):
        pieces = [expert[low:high].float() for expert in experts]
        merged = overlap(base[low:high].float(), pieces, 0, epsilon=plan.epsilon, scales=plan.scales)
        broken += _write(merged, out[low:high])
    return broken


def kept(mask: Mask, delta: Tensor, start: int, key: Tensor | None = None) -> Tensor:
    """Which entries of a difference a mask keeps: bool, as long as `delta`.

    Args:
        mask: of the whole tensor.
        delta: flat float32, the stretch that begins at entry `start`.
        start: position in the whole tensor.
        key: of the whole tensor, for `Ranked`.
    """
    match mask:
        case Everything():
            return torch.ones_like(delta, dtype=torch.bool)
        case Nothing():
            return torch.zeros_like(delta, dtype=torch.bool)
        case Band(above, upto):
            return first(upto, delta, start) & ~first(above, delta, start)
        case Random(seed, name, expert, threshold):
            return Draw(seed, name).bits(delta.numel(), expert, delta.device, start=start) < threshold
        case Ranked():
            assert key is not None, "a Ranked mask is computed beforehand"
            return key[start : start + delta.numel()] == 0


def first(rank: Rank, delta: Tensor, start: int) -> Tensor:
    """Which entries belong to the first ones that end at `rank`: bool, as long as `delta`."""
    magnitude = delta.abs()
    position = torch.arange(start, start + delta.numel(), device=delta.device)
    return (magnitude > rank.threshold) | ((magnitude == rank.threshold) & (position <= rank.last))


def _summed(deltas: Sequence[Tensor], plan: Sparse) -> Tensor:
    return _sum([_single(w * s) * d for w, s, d in zip(plan.weights, plan.scales, deltas, strict=True)])


def _elected(deltas: Sequence[Tensor], plan: Sparse) -> Tensor:
    """The sum of what agrees with the elected sign, divided as the plan says; NaN where the votes are."""
    values = votes = [_single(w * s) * d for w, s, d in zip(plan.weights, plan.scales, deltas, strict=True)]
    if not plan.weighted_election:
        votes = [_single(s) * d for s, d in zip(plan.scales, deltas, strict=True)]
    total = _sum(votes)
    plus = total >= 0
    agreeing = [torch.where(plus, vote > 0, vote < 0) for vote in votes]
    result = _sum([torch.where(agrees, value, 0.0) for agrees, value in zip(agreeing, values, strict=True)])
    if plan.divide != "no":
        shares = plan.weights if plan.divide == "weights" else (1.0,) * len(deltas)
        divisor = _sum([_single(share) * agrees for share, agrees in zip(shares, agreeing, strict=True)])
        result = result / torch.where(divisor == 0, 1.0, divisor)
    return torch.where(total.isnan(), total, result)


def _single(number: float) -> float:
    """`number` rounded to float32."""
    return float(np.float32(number))


def _sum(terms: Sequence[Tensor]) -> Tensor:
    """The terms added in their order, each partial sum rounded."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _write(result: Tensor, out: Tensor) -> int:
    """Round `result` into `out`; the number of entries that are then not finite."""
    out.copy_(result)
    return out.numel() - int(out.isfinite().sum())


def _stretches(out: Tensor, start: int, stop: int | None) -> list[tuple[int, int]]:
    """[start, stop) in blocks; none crosses a multiple of 2^32, where the random keys change."""
    size = _CPU_BLOCK if out.device.type == "cpu" else _DEVICE_BLOCK
    end = out.numel() if stop is None else stop
    edges = (start, *range(start - start % size + size, end, size), end)
    return list(pairwise(edges))
