"""Points as the model sees them: weights instead of broken sticks, choices as indicators."""

from __future__ import annotations

import numpy as np

from ._types import Array, Problem


def features(problem: Problem, x: Array) -> Array:
    """Features of points of the cube: (n, d) -> (n, f), each in [0, 1].

    A group of k - 1 sticks becomes its k weights: a small share of the last sticks hardly moves the merge once the
    first ones took everything, and a model on sticks would have to learn that from scores. A choice among k becomes k
    indicators, since its order means nothing.
    """
    columns: list[Array] = []
    index = 0
    stops = dict(problem.sticks)
    while index < problem.dimensions:
        stop = stops.get(index)
        if stop is not None:
            columns.append(from_sticks(x[:, index:stop]))
            index = stop
            continue
        count = problem.levels[index] if problem.levels else 0
        if count > 2:
            choice = np.minimum(np.floor(x[:, index] * count), count - 1)
            columns.append((choice[:, None] == np.arange(count)).astype(np.float64))
        else:
            columns.append(x[:, index : index + 1])
        index += 1
    return np.concatenate(columns, axis=1)


def from_sticks(u: Array) -> Array:
    """`search.space.from_sticks` for many points: (n, k - 1) -> weights (n, k)."""
    left = np.ones(len(u))
    weights = []
    for index in range(u.shape[1]):
        share = 1.0 - (1.0 - u[:, index]) ** (1.0 / (u.shape[1] - index))
        weights.append(left * share)
        left = left * (1.0 - share)
    return np.column_stack([*weights, left])


def to_sticks(weights: Array) -> Array:
    """The inverse: weights (n, k) that sum to 1 -> (n, k - 1); where nothing is left to share, 0."""
    left = weights.sum(axis=1)
    sticks = []
    for index in range(weights.shape[1] - 1):
        share = np.where(left > 1e-12, weights[:, index] / np.maximum(left, 1e-12), 0.0)
        sticks.append(1.0 - np.clip(1.0 - share, 0.0, 1.0) ** (weights.shape[1] - 1 - index))
        left = left - weights[:, index]
    return np.column_stack(sticks)
