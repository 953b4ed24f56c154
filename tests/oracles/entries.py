"""Merges decided entry by entry, written out slowly in Python floats (float64) and whole numpy rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Vector = Sequence[float]
Array = np.ndarray[Any, np.dtype[np.float64]]


def nearswap(base: Vector, expert: Vector, t: float) -> list[float]:
    merged = []
    for b, x in zip(base, expert, strict=True):
        share = min(1.0, max(0.0, t / max(abs(x - b), 1e-6)))
        merged.append(share * x + (1 - share) * b)
    return merged


def ram(base: Vector, experts: Sequence[Vector], *, epsilon: float = 1e-5, scales: Vector | None = None) -> list[float]:
    merged = []
    for b, *entry in zip(base, *experts, strict=True):
        touching = [(i, x - b) for i, x in enumerate(entry) if abs(x - b) > epsilon]
        if len(touching) == 1:
            index, delta = touching[0]
            merged.append(b + delta * (1.0 if scales is None else scales[index]))
        else:
            merged.append(b + math.fsum(delta for _, delta in touching) / max(1, len(touching)))
    return merged


def ramplus_tl(
    base: Vector, experts: Sequence[Vector], *, epsilon: float = 1e-5, r: float = 0.1, alpha: float = 0.2
) -> list[float]:
    shared, alone = [0] * len(experts), [0] * len(experts)
    for b, *entry in zip(base, *experts, strict=True):
        touching = [i for i, x in enumerate(entry) if abs(x - b) > epsilon]
        for index in touching:
            (alone if len(touching) == 1 else shared)[index] += 1
    scales = []
    for s, a in zip(shared, alone, strict=True):
        below = max(a, epsilon)
        scales.append(1 + r * (min(alpha, s / below) if below else alpha if s else 0.0))
    return ram(base, experts, epsilon=epsilon, scales=scales)


def sce(base: Vector, experts: Sequence[Vector], *, select_topk: float = 1.0) -> list[float]:
    deltas = [[x - b for x, b in zip(expert, base, strict=True)] for expert in experts]
    if select_topk < 1:
        spread = [variance([delta[j] for delta in deltas]) for j in range(len(base))]
        count = int(sum(value != 0 for value in spread) * select_topk)
        chosen = set(sorted(range(len(base)), key=lambda j: -spread[j])[:count])  # stable: first come, first kept
        deltas = [[d if j in chosen else 0.0 for j, d in enumerate(delta)] for delta in deltas]
    energy = [math.fsum(d * d for d in delta) / max(1, len(base)) for delta in deltas]
    total = math.fsum(energy)
    shares = [1 / len(deltas) if total < 1e-6 else value / total for value in energy]
    merged = []
    for b, *entry in zip(base, *deltas, strict=True):
        elected = 1 if math.fsum(entry) >= 0 else -1
        agreeing = [(a, d) for a, d in zip(shares, entry, strict=True) if (d > 0) - (d < 0) == elected]
        weights = math.fsum(a for a, _ in agreeing)
        merged.append(b + math.fsum(a * d for a, d in agreeing) / max(weights, 1e-6))
    return merged


def variance(values: Vector) -> float:
    """Population variance; exactly 0 for equal values."""
    mean = math.fsum(value - values[0] for value in values) / len(values)
    return math.fsum((value - values[0] - mean) ** 2 for value in values) / len(values)


def importance(base: Array, expert: Array) -> Array:
    """Arcee Fusion's importance of each entry; inputs are matrices."""
    found = np.zeros_like(base)
    for row, (b, x) in enumerate(zip(base, expert, strict=True)):
        p, q = (np.exp(z - z.max()) / np.exp(z - z.max()).sum() + 1e-8 for z in (x, b))
        found[row] = np.abs(x - b) * float((p * np.log(p / q)).sum())
    return found


def arcee_threshold(found: Array) -> float:
    ordered = np.sort(found.flatten())
    first, median, third = (float(ordered[int(q * (ordered.size - 1))]) for q in (0.25, 0.5, 0.75))
    return median + 1.5 * (third - first)
