"""Merges by direction, written out on whole float64 vectors from their definitions: no coefficients.

Inputs are flattened numpy arrays; where vectors along a dimension matter, arrays of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def linear(experts: Sequence[Array], weight: Sequence[float], *, normalize: bool = True) -> Array:
    total = math.fsum(weight) if normalize else 1.0
    return np.asarray(sum(w * x for w, x in zip(weight, experts, strict=True)) / total)


def arc(x: Array, y: Array, t: float, *, smallest: float, straight: float) -> Array:
    """Slerp of raw vectors; a straight line where |cos| > `straight`; norms up to `smallest` count as `smallest`."""
    u, v = (z / max(float(np.linalg.norm(z)), smallest) for z in (x, y))
    cosine = min(1.0, max(-1.0, float(u @ v)))
    if abs(cosine) > straight:
        return (1 - t) * x + t * y
    angle = math.acos(cosine)
    return np.asarray((math.sin((1 - t) * angle) * x + math.sin(t * angle) * y) / math.sin(angle))


def slerp(x: Array, y: Array, t: float) -> Array:
    """The norm of a zero vector counts as 1; of others that small there are none in the tests."""
    return arc(x, y, t, smallest=1e-300, straight=0.9995)


def nuslerp(rows: Sequence[Array], weight: Sequence[float], base: Array | None = None) -> Array:
    """Row by row; inputs are matrices."""
    total = weight[0] + weight[1]
    t = 0.5 if abs(total) < 1e-6 else weight[1] / total
    first, second = rows if base is None else (rows[0] - base, rows[1] - base)
    arcs = [arc(x, y, t, smallest=1e-7, straight=1 - 5e-15) for x, y in zip(first, second, strict=True)]
    merged = np.array(arcs).reshape(first.shape)
    return merged if base is None else base + merged


def multislerp(
    experts: Sequence[Array], weight: Sequence[float], base: Array | None = None, *, normalize: bool, eps: float = 1e-8
) -> Array:
    """With the tangent step in full."""
    if len(experts) == 1:
        return experts[0]
    vectors = [x if base is None else x - base for x in experts]
    shares = [w / math.fsum(weight) for w in weight] if normalize else list(weight)
    lengths = [float(np.linalg.norm(x)) for x in vectors]
    units = [x / (n + eps) for x, n in zip(vectors, lengths, strict=True)]
    mean = np.asarray(sum(w * u for w, u in zip(shares, units, strict=True)))
    mean = mean / np.linalg.norm(mean)
    tangent = np.asarray(sum(w * (u - (u @ mean) * mean) for w, u in zip(shares, units, strict=True)))
    angle = float(np.linalg.norm(tangent)) + eps
    turned = mean * math.cos(angle) + tangent * (math.sin(angle) / angle)
    merged = turned * sum(w * n for w, n in zip(shares, lengths, strict=True))
    return np.asarray(merged if base is None else merged + base)


def karcher(experts: Sequence[Array], *, max_iter: int = 10, tol: float = 1e-5) -> tuple[Array, list[float], float]:
    """The mean; the length of each step; the smallest cosine between a mean on the way and an expert."""
    lengths = [float(np.linalg.norm(x)) for x in experts]
    units = [x / n for x, n in zip(experts, lengths, strict=True) if n > tol]
    if not units:
        return np.zeros_like(experts[0]), [], 1.0
    mean = np.asarray(sum(units)) / len(units)
    steps, smallest = [float(np.linalg.norm(mean))], 1.0
    if steps[0] < tol:
        return mean, steps, -1.0
    mean = mean / steps[0]
    for _ in range(max_iter):
        tangent = np.zeros_like(mean)
        for unit in units:
            cosine = min(1.0, max(-1.0, float(unit @ mean)))
            smallest = min(smallest, cosine)
            angle = math.acos(cosine)
            if angle >= tol and cosine > -1:
                tangent += angle / math.sin(angle) * (unit - cosine * mean) / len(units)
        steps.append(float(np.linalg.norm(tangent)))
        if steps[-1] < tol:
            break
        mean = math.cos(steps[-1]) * mean + math.sin(steps[-1]) / steps[-1] * tangent
        mean = mean / np.linalg.norm(mean)
    return mean * (sum(lengths) / len(lengths)), steps, smallest


def model_stock(rows: Sequence[Array], base: Array) -> Array:
    """Row by row; inputs are matrices."""
    merged = []
    for index, origin in enumerate(base):
        deltas = [x[index] - origin for x in rows]
        cosines = [
            float(d @ e) / max(float(np.linalg.norm(d)) * float(np.linalg.norm(e)), 1e-6)
            for i, d in enumerate(deltas)
            for e in deltas[i + 1 :]
        ]
        cosine, count = float(np.mean(np.clip(cosines, -1, 1))), len(rows)
        divisor = 1 + (count - 1) * cosine
        t = 0.0 if abs(divisor) < 1e-6 else count * cosine / divisor
        merged.append(t * np.mean([x[index] for x in rows], axis=0) + (1 - t) * origin)
    return np.array(merged).reshape(base.shape)
