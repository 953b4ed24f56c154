"""Sparse plans carried out slowly in Python floats, from the text of `mergers/_plan.py`, and what plans ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mergers._plan import NOTHING_YET, Band, Everything, Mask, Nothing, Random, Rank, Ranked, Sparse

from . import sparse

Vector = Sequence[float]


T = TypeVar("T")


@dataclass(frozen=True)
class Answers:
    """Answers to a plan's questions about one tensor."""

    deltas: Sequence[Vector]
    shape: tuple[int, ...]

    @property
    def experts(self) -> int:
        return len(self.deltas)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def each(self, answer: Callable[[int], T]) -> list[T]:
        return [answer(expert) for expert in range(self.experts)]

    def rank(self, expert: int, count: int) -> Rank:
        if count <= 0:
            return NOTHING_YET
        last = sparse.ordered(self.deltas[expert])[count - 1]
        return Rank(sparse.single(abs(self.deltas[expert][last])), last)

    def ranks(self, expert: int, counts: Sequence[int]) -> tuple[Rank, ...]:
        return tuple(self.rank(expert, count) for count in counts)

    def l1(self, expert: int, mask: Mask) -> tuple[float, float]:
        delta = self.deltas[expert]
        inside = kept(mask, delta, self.shape)
        return math.fsum(map(abs, delta)), math.fsum(abs(d) for d, keep in zip(delta, inside, strict=True) if keep)


def kept(mask: Mask, delta: Vector, shape: Sequence[int]) -> list[bool]:
    """Which entries a mask keeps."""
    places = range(len(delta))
    match mask:
        case Everything():
            return [True for _ in places]
        case Nothing():
            return [False for _ in places]
        case Band():
            return [_first(mask.upto, delta, j) and not _first(mask.above, delta, j) for j in places]
        case Random():
            return [sparse.bits(mask.seed, mask.name, mask.expert, j) < mask.threshold for j in places]
        case Ranked():
            middle, half = (mask.low + mask.high) / 2, (mask.high - mask.low) / 2
            chances = sparse.chances(delta, sparse.rows_of(shape), middle, half)
            return [sparse.bits(mask.seed, mask.name, mask.expert, j) < sparse.level(chances[j]) for j in places]


def _first(rank: Rank, delta: Vector, place: int) -> bool:
    magnitude = sparse.single(abs(delta[place]))
    return magnitude > rank.threshold or (magnitude == rank.threshold and place <= rank.last)


def run(plan: Sparse, base: Vector, experts: Sequence[Vector], shape: Sequence[int]) -> list[float]:
    """The merge that `plan` says."""
    deltas = [sparse.difference(base, expert) for expert in experts]
    masks = [kept(mask, delta, shape) for mask, delta in zip(plan.masks, deltas, strict=True)]
    result = []
    for j, b in enumerate(base):
        parts = [scale * d[j] * m[j] for scale, d, m in zip(plan.scales, deltas, masks, strict=True)]
        values = [w * part for w, part in zip(plan.weights, parts, strict=True)]
        if not plan.consensus:
            assert plan.divide == "no"
            result.append(b + plan.lambda_ * math.fsum(values))
            continue
        votes = values if plan.weighted_election else parts
        plus = math.fsum(votes) >= 0
        agree = [i for i, vote in enumerate(votes) if vote and (vote > 0) == plus]
        divisor = {"no": 1.0, "count": len(agree), "weights": math.fsum(plan.weights[i] for i in agree)}[plan.divide]
        result.append(b + plan.lambda_ * math.fsum(values[i] for i in agree) / (divisor or 1.0))
    return result
