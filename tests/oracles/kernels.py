"""What the fused kernels compute, in the plainest way: whole tensors, one line per formula, Python integers.

Independent of `mergers/_execution/kernels` and of `mergers/_maths/draw.py`: the random words are written out from their
definition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mergers._plan import Band, Everything, Mask, Nothing, Random, Rank, Ranked, Sparse, Weighted

_MODULUS = 1 << 32


def random_bits(seed: int, name: str, expert: int, entries: Sequence[int]) -> Tensor:
    """The 16 random bits of these entries."""
    return torch.tensor([_word(seed, name, expert // 2, e) >> 16 * (expert % 2) & 0xFFFF for e in entries])


def _word(seed: int, name: str, pair: int, entry: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{name}\0{pair}\0{entry >> 32}".encode(), digest_size=8).digest()
    h = entry % _MODULUS ^ int.from_bytes(digest[:4], "little")
    h ^= h >> 17
    h = h * 0xED5AD4BB % _MODULUS
    h ^= h >> 11
    h = (h + int.from_bytes(digest[4:], "little")) % _MODULUS
    h = h * 0xAC4C1B51 % _MODULUS
    h ^= h >> 15
    h = h * 0x31848BAB % _MODULUS
    return h ^ h >> 14


def weighted(base: Tensor | None, experts: Sequence[Tensor], plan: Weighted) -> Tensor:
    """Float32."""
    terms = [] if base is None or plan.base == 0 else [_single(plan.base) * base.float()]
    terms += [_single(c) * x.float() for c, x in zip(plan.experts, experts, strict=True)]
    return _sum(terms)


def sparse(
    base: Tensor, experts: Sequence[Tensor], plan: Sparse, keys: Sequence[Tensor | None], start: int = 0
) -> Tensor:
    """Float32; `start` is the position of the first entry in the whole tensor."""
    b = base.float()
    deltas = [
        torch.where(kept(mask, x.float() - b, key, start), x.float() - b, 0.0)
        for x, mask, key in zip(experts, plan.masks, keys, strict=True)
    ]
    values = [_single(w * s) * d for w, s, d in zip(plan.weights, plan.scales, deltas, strict=True)]
    if not plan.consensus:
        return b + _single(plan.lambda_) * _sum(values)
    votes = values if plan.weighted_election else [_single(s) * d for s, d in zip(plan.scales, deltas, strict=True)]
    elected = torch.where(_sum(votes) >= 0, 1.0, -1.0)
    agree = [torch.sign(x) == elected for x in (values if plan.weighted_election else deltas)]
    merged = _sum([torch.where(a, v, 0.0) for a, v in zip(agree, values, strict=True)])
    if plan.divide != "no":
        shares = plan.weights if plan.divide == "weights" else [1.0] * len(deltas)
        divisor = _sum([_single(share) * a.float() for a, share in zip(agree, shares, strict=True)])
        merged = merged / torch.where(divisor == 0, 1.0, divisor)
    return b + _single(plan.lambda_) * merged


def kept(mask: Mask, delta: Tensor, key: Tensor | None, start: int = 0) -> Tensor:
    """Which entries a mask keeps."""
    match mask:
        case Everything():
            return torch.ones_like(delta, dtype=torch.bool)
        case Nothing():
            return torch.zeros_like(delta, dtype=torch.bool)
        case Band(above, upto):
            return _first(upto, delta, start) & ~_first(above, delta, start)
        case Random(seed, name, expert, threshold):
            return random_bits(seed, name, expert, range(start, start + len(delta))) < threshold
        case Ranked(_, _, _, low, high):
            assert key is not None
            return key <= round((low + high) / 2 * 64)


def order(delta: Tensor) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions by |d| descending, equal ones ascending."""
    return np.argsort(-np.abs(delta.numpy().astype(np.float64)), kind="stable")


def ranked(delta: Tensor, columns: int, low: float, high: float, bits: Tensor) -> Tensor:
    """Which entries DELLA keeps: rank 0 is the last in the order of its row."""
    result = torch.zeros(len(delta), dtype=torch.bool)
    for row in range(0, len(delta), columns):
        for rank, place in enumerate(order(delta[row : row + columns])[::-1]):
            chance = (low + high) / 2 if columns == 1 else low + (high - low) * rank / (columns - 1)
            result[row + int(place)] = int(bits[row + int(place)]) < min(
                65535, max(1, int(np.floor(chance * 65536 + 0.5)))
            )
    return result


def _first(rank: Rank, delta: Tensor, start: int) -> Tensor:
    place = torch.arange(start, start + len(delta))
    return (delta.abs() > rank.threshold) | ((delta.abs() == rank.threshold) & (place <= rank.last))


def _single(number: float) -> float:
    return float(np.float32(number))


def _sum(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
