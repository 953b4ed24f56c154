"""The task-vector methods written out slowly in Python floats (float64), entry by entry.

A method here is three lists per expert: which entries are kept, what each is multiplied by, and how the experts are
combined. Nothing is shared with `mergers`.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Literal

Vector = Sequence[float]
Mask = Sequence[bool]
_32 = 1 << 32


def bits(seed: int, name: str, index: int, element: int) -> int:
    """The 16 random bits of one entry, from the definition in `mergers/_maths/draw.py`."""
    text = f"{seed}\0{name}\0{index // 2}\0{element >> 32}"
    first, second = struct.unpack("<II", hashlib.blake2b(text.encode(), digest_size=8).digest())
    word = (element % _32) ^ first
    word ^= word >> 17
    word = word * 0xED5AD4BB % _32
    word ^= word >> 11
    word = (word + second) % _32
    word = word * 0xAC4C1B51 % _32
    word ^= word >> 15
    word = word * 0x31848BAB % _32
    word ^= word >> 14
    return int(word >> 16 if index % 2 else word % 65536)


def level(chance: float) -> int:
    """Bits below it keep an entry of this chance."""
    return min(65535, max(1, math.floor(chance * 65536 + 0.5)))


def single(value: float) -> float:
    """Rounded to float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def difference(base: Vector, expert: Vector) -> list[float]:
    return [x - b for x, b in zip(expert, base, strict=True)]


def ordered(delta: Vector) -> list[int]:
    """Positions, largest float32 magnitude first; equal ones in order of position."""
    return sorted(range(len(delta)), key=lambda j: (-single(abs(delta[j])), j))


def trimmed(delta: Vector, density: float) -> list[bool]:
    size = len(delta)
    count = size if density >= 1 else 0 if density <= 0 or not size else max(1, int(density * size))
    first = set(ordered(delta)[:count])
    return [j in first for j in range(size)]


def banded(delta: Vector, density: float, gamma: float) -> list[bool]:
    """mergekit's own arithmetic: positions [bottom, bottom + keep) of the ascending order."""
    size = len(delta)
    if density >= 1:
        return [True] * size
    keep, top = int(density * size), int(gamma * size)
    bottom = max(0, size - keep - top)
    middle = set(ordered(delta)[::-1][bottom : bottom + keep])
    return [j in middle for j in range(size)]


def chances(delta: Vector, rows: Sequence[Sequence[int]], density: float, epsilon: float) -> list[float]:
    """DELLA's keep probabilities; `rows` lists the positions of each row."""
    found = [0.0] * len(delta)
    for row in rows:
        ascending = sorted(row, key=lambda j: (abs(delta[j]), -j))
        for rank, j in enumerate(ascending):
            share = rank / (len(row) - 1) if len(row) > 1 else 0.5
            found[j] = density - epsilon + 2 * epsilon * share
    return found


def rows_of(shape: Sequence[int]) -> list[list[int]]:
    """Positions of each row: along dimension 1; a tensor of fewer dimensions is one row."""
    if len(shape) < 2:
        return [list(range(math.prod(shape)))]
    inner = math.prod(shape[2:])
    return [
        [(first * shape[1] + j) * inner + last for j in range(shape[1])]
        for first in range(shape[0])
        for last in range(inner)
    ]


def matching(delta: Vector, kept: Mask) -> float:
    """The factor that brings the L1 norm of what is kept back to that of everything."""
    before = math.fsum(map(abs, delta))
    after = math.fsum(abs(d) for d, keep in zip(delta, kept, strict=True) if keep)
    return before / after if before >= 1e-7 and after >= 1e-7 else 1.0


def merged(
    base: Vector,
    experts: Sequence[Vector],
    weight: Vector,
    kept: Sequence[Mask],
    factors: Sequence[Vector],
    *,
    election: Literal["none", "weighted", "unweighted"],
    normalize: bool,
    lambda_: float,
) -> list[float]:
    """The merge: differences, masked and multiplied by `factors`, then summed directly or by consensus."""
    result = []
    for j, b in enumerate(base):
        sparse = [
            (x[j] - b) * factor[j] if keep[j] else 0.0 for x, keep, factor in zip(experts, kept, factors, strict=True)
        ]
        values = [w * s for w, s in zip(weight, sparse, strict=True)]
        if election == "none":
            total = math.fsum(weight)
            divisor = total if normalize and abs(total) >= 1e-8 else 1.0
            result.append(b + lambda_ * math.fsum(values) / divisor)
            continue
        votes = values if election == "weighted" else sparse
        sign = 1 if math.fsum(votes) >= 0 else -1
        agree = [i for i, vote in enumerate(votes) if (vote > 0) - (vote < 0) == sign]
        share = math.fsum(weight[i] for i in agree) if election == "weighted" else float(len(agree))
        divisor = share if normalize and share != 0 else 1.0
        result.append(b + lambda_ * math.fsum(values[i] for i in agree) / divisor)
    return result
