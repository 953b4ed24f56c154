"""Task singular vectors merging in numpy, step by step as the paper's notes state it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def tsvm(base: Array, experts: Sequence[Array], alpha: float = 1.0) -> Array:
    deltas = [expert - base for expert in experts]
    if base.ndim != 2:
        return np.asarray(base + alpha * np.mean(deltas, axis=0))
    full = min(base.shape)
    return np.asarray(base + alpha * _merged(deltas, full // len(experts), [1.0] * len(experts)))


def tsvm_weighted(
    base: Array, experts: Sequence[Array], weight: Sequence[float], *, sigmas: float = 3.0, negligible: float = 0.01
) -> Array:
    deltas = [expert - base for expert in experts]
    masses, small = [], []
    for delta in deltas:
        size = sorted(abs(x) for x in delta.flatten().tolist())
        mean = math.fsum(size) / len(size)
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in size) / len(size))
        root = math.sqrt(math.fsum(x * x for x in size) / len(size))
        masses.append(math.fsum(x for x in size if x > mean + sigmas * deviation))
        small.append(sum(x < negligible * root for x in size) / len(size))
    total, count = math.fsum(masses), len(experts)
    shares = [mass / total if total else 1 / count for mass in masses]
    if base.ndim != 2:
        return np.asarray(base + sum(w * a * d for w, a, d in zip(weight, shares, deltas, strict=True)))
    rank = max(1, math.floor(min(base.shape) / count * (1 - math.fsum(small) / count)))
    return np.asarray(base + _merged(deltas, rank, [w * a * count for w, a in zip(weight, shares, strict=True)]))


def _merged(deltas: Sequence[Array], rank: int, scales: Sequence[float]) -> Array:
    lefts, values, rights = [], [], []
    for delta, scale in zip(deltas, scales, strict=True):
        if scale == 0:  # nothing is left of it
            continue
        u, s, vt = np.linalg.svd(delta * scale, full_matrices=False)
        lefts.append(u[:, :rank])
        values.append(s[:rank])
        rights.append(vt[:rank])
    u_p, _, u_q = np.linalg.svd(np.concatenate(lefts, axis=1), full_matrices=False)
    v_p, _, v_q = np.linalg.svd(np.concatenate(rights, axis=0), full_matrices=False)
    return np.asarray(u_p @ u_q @ np.diag(np.concatenate(values)) @ v_p @ v_q)
