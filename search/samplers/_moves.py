"""Where to look for the next point: features that stand for points of the cube, and ways to move among them."""

from __future__ import annotations

import numpy as np

from ._features import to_sticks
from ._types import Array, Problem, snap

CONTINUOUS, SIMPLEX, CHOICE = "continuous", "simplex", "choice"


def blocks(problem: Problem) -> tuple[tuple[str, slice, slice], ...]:
    """(kind, dimensions, features) of each part of a point that belongs together."""
    found: list[tuple[str, slice, slice]] = []
    stops, index, feature = dict(problem.sticks), 0, 0
    while index < problem.dimensions:
        count = problem.levels[index] if problem.levels else 0
        stop = stops.get(index, index + 1)
        width = stop - index + 1 if index in stops else (count if count > 2 else 1)
        kind = SIMPLEX if index in stops else (CHOICE if count else CONTINUOUS)
        found.append((kind, slice(index, stop), slice(feature, feature + width)))
        index, feature = stop, feature + width
    return tuple(found)


def points(problem: Problem, z: Array) -> Array:
    """Features -> points of the cube, the inverse of `features`: (n, f) -> (n, d)."""
    x = np.empty((len(z), problem.dimensions))
    for kind, dimensions, columns in blocks(problem):
        part = z[:, columns]
        if kind == SIMPLEX:
            x[:, dimensions] = to_sticks(part)
        elif kind == CHOICE and part.shape[1] > 1:
            x[:, dimensions] = (part.argmax(axis=1)[:, None] + 0.5) / part.shape[1]
        else:
            x[:, dimensions] = part
    return snap(problem, x)


def repaired(problem: Problem, z: Array) -> Array:
    """Features moved to the nearest ones that stand for a point: weights on the simplex, one choice of several."""
    z = z.copy()
    for kind, _, columns in blocks(problem):
        part = z[:, columns]
        if kind == SIMPLEX:
            z[:, columns] = project(part)
        elif kind == CHOICE and part.shape[1] > 1:
            z[:, columns] = part.argmax(axis=1)[:, None] == np.arange(part.shape[1])
        elif kind == CHOICE:
            z[:, columns] = np.where(part < 0.5, 0.25, 0.75)
        else:
            z[:, columns] = np.clip(part, 0.0, 1.0)
    return z


def project(weights: Array) -> Array:
    """The nearest points of the simplex (Duchi et al. 2008): (n, k) -> (n, k)."""
    ordered = -np.sort(-weights, axis=1)
    excess = (np.cumsum(ordered, axis=1) - 1.0) / np.arange(1, weights.shape[1] + 1)
    last = (ordered > excess).sum(axis=1) - 1
    return np.asarray(np.maximum(weights - excess[np.arange(len(weights)), last][:, None], 0.0))


def free(problem: Problem, width: int) -> Array:
    """1 for features that a small step may change, 0 for choices: (f,)."""
    mask = np.ones(width)
    for kind, _, columns in blocks(problem):
        if kind == CHOICE:
            mask[columns] = 0.0
    return mask


def near(problem: Problem, z: Array, count: int, rng: np.random.Generator) -> Array:
    """Points around those given: steps of many sizes in some or all features, choices redrawn now and then."""
    parents = z[rng.integers(len(z), size=count)]
    size = 10.0 ** rng.uniform(-2.0, -0.5, size=(count, 1))
    some = rng.random((count, 1)) < 0.5
    moved = np.where(some, rng.random(parents.shape) < max(0.3, 1.0 / parents.shape[1]), True)
    step = rng.normal(size=parents.shape) * size * moved * free(problem, z.shape[1])
    children = parents + step
    for kind, _, columns in blocks(problem):
        if kind == CHOICE:
            redrawn = rng.random(count) < 0.2
            part = rng.random((count, columns.stop - columns.start))
            children[:, columns] = np.where(redrawn[:, None], part, children[:, columns])
    return repaired(problem, children)


def between(problem: Problem, z: Array, count: int, rng: np.random.Generator) -> Array:
    """Points on lines through pairs of those given, a little beyond their ends too."""
    pairs = z[rng.integers(len(z), size=(count, 2))]
    share = rng.uniform(-0.3, 1.3, size=(count, 1))
    return repaired(problem, pairs[:, 0] + share * (pairs[:, 1] - pairs[:, 0]))
