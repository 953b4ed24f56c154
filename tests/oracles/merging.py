"""Merge methods written out slowly in Python floats (float64), entry by entry: what the fast ones are held against."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

Vector = Sequence[float]
_64 = 1 << 64


def uniform(seed: int, name: str, index: int, element: int) -> float:
    """The random number of one element, from the definition in `mergers/_draw.py`, SplitMix64 in full."""
    key = int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "little")
    state = _splitmix(key + (index + 1) * 0x9E3779B97F4A7C15) + (element + 1) * 0x9E3779B97F4A7C15
    return (_splitmix(state) >> 40) / 2**24


def _splitmix(state: int) -> int:
    state %= _64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % _64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % _64
    return state ^ (state >> 31)


def linear(experts: Sequence[Vector], weight: Vector, *, normalize: bool = True) -> list[float]:
    total = math.fsum(weight) if normalize else 1.0
    return [
        math.fsum(w * x for w, x in zip(weight, entry, strict=True)) / total for entry in zip(*experts, strict=True)
    ]


def slerp(experts: Sequence[Vector], t: float) -> list[float]:
    first, second = experts
    norms = [math.sqrt(math.fsum(x * x for x in vector)) for vector in experts]
    left, right = (norm if norm > 1e-8 else 1.0 for norm in norms)
    cosine = max(-1.0, min(1.0, math.fsum(x / left * y / right for x, y in zip(first, second, strict=True))))
    if abs(cosine) > 0.9995:
        return [(1 - t) * x + t * y for x, y in zip(first, second, strict=True)]
    angle = math.acos(cosine)
    return [
        (math.sin((1 - t) * angle) * x + math.sin(t * angle) * y) / math.sin(angle)
        for x, y in zip(first, second, strict=True)
    ]


def task_arithmetic(
    base: Vector, experts: Sequence[Vector], weight: Vector, *, normalize: bool = False, lambda_: float = 1.0
) -> list[float]:
    total = math.fsum(weight)
    divisor = total if normalize and abs(total) >= 1e-8 else 1.0
    return [
        b + lambda_ * math.fsum(w * (x - b) for w, x in zip(weight, entry, strict=True)) / divisor
        for b, *entry in zip(base, *experts, strict=True)
    ]


def ties(
    base: Vector,
    experts: Sequence[Vector],
    weight: Vector,
    density: Vector,
    *,
    normalize: bool = True,
    rescale: bool = False,
    lambda_: float = 1.0,
) -> list[float]:
    thinned = [_thin(base, x, _largest(base, x, q), rescale) for x, q in zip(experts, density, strict=True)]
    return _consensus(base, thinned, weight, normalize, lambda_)


def dare_ties(
    base: Vector,
    experts: Sequence[Vector],
    weight: Vector,
    density: Vector,
    *,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: float = 1.0,
    number: Callable[[int, int], float],
) -> list[float]:
    """`number(expert, element)` is the element's random number."""
    thinned = [
        _thin(base, x, [q >= 1 or number(i, j) < q for j in range(len(base))], rescale and q < 1)
        for i, (x, q) in enumerate(zip(experts, density, strict=True))
    ]
    return _consensus(base, thinned, weight, normalize, lambda_)


def _largest(base: Vector, expert: Vector, density: float) -> list[bool]:
    size = len(base)
    keep = size if density >= 1 else 0 if density <= 0 or not size else max(1, int(density * size))
    order = sorted(range(size), key=lambda j: -abs(expert[j] - base[j]))  # stable: first come, first kept
    kept = set(order[:keep])
    return [j in kept for j in range(size)]


def _thin(base: Vector, expert: Vector, kept: Sequence[bool], rescale: bool) -> list[float]:
    delta = [x - b for x, b in zip(expert, base, strict=True)]
    thinned = [d if keep else 0.0 for d, keep in zip(delta, kept, strict=True)]
    before, after = math.fsum(map(abs, delta)), math.fsum(map(abs, thinned))
    scale = before / after if rescale and before >= 1e-7 and after >= 1e-7 else 1.0
    return [d * scale for d in thinned]


def _consensus(base: Vector, thinned: Sequence[Vector], weight: Vector, normalize: bool, lambda_: float) -> list[float]:
    merged = []
    for b, *entry in zip(base, *thinned, strict=True):
        votes = [w * d for w, d in zip(weight, entry, strict=True)]
        elected = 1 if math.fsum(votes) >= 0 else -1
        agree = [(v > 0) - (v < 0) == elected for v in votes]
        total = math.fsum(v for v, ok in zip(votes, agree, strict=True) if ok)
        shares = math.fsum(w for w, ok in zip(weight, agree, strict=True) if ok)
        merged.append(b + lambda_ * total / (shares if normalize and shares != 0 else 1.0))
    return merged
