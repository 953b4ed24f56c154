"""What is believed of every objective: its models, draws from them, and its values at the scored points."""

from __future__ import annotations

import numpy as np

from ._gp import Model, fit, paths
from ._parts import Draws, Ordered
from ._types import Array, History, Problem, losses, part_columns

DRAWS = 64
Models = tuple[tuple[Model, ...], ...]
"""Of each loss: one model, or one of each of its parts."""


def models(problem: Problem, seen: History, z: Array) -> Models:
    """Of each loss: one model, or one of each part."""
    loss = losses(problem, seen.values)
    found: list[tuple[Model, ...]] = []
    for j, direction in enumerate(problem.directions):
        columns = part_columns(problem, j)
        parts, errors = seen.parts[:, columns], seen.part_stderr[:, columns]
        if parts.shape[1] > 1 and np.isfinite(parts).all():
            sign = -1.0 if direction == "max" else 1.0
            found.append(tuple(fit(z, sign * parts[:, k], errors[:, k], common=False) for k in range(parts.shape[1])))
        else:
            found.append((fit(z, loss[:, j], seen.stderr[:, j]),))
    return tuple(found)


def draws(problem: Problem, models: Models, waiting: Array, rng: np.random.Generator) -> tuple[Draws, ...]:
    """Draws of each loss."""
    found: list[Draws] = []
    for j, direction in enumerate(problem.directions):
        drawn = tuple(paths(model, waiting, DRAWS, rng) for model in models[j])
        if len(drawn) == 1:
            found.append(drawn[0])
        else:  # the lowest score is the highest loss
            found.append(Ordered(drawn, np.array(problem.orders[j])[:: -1 if direction == "max" else 1]))
    return tuple(found)


def believed(models: Models, draws: tuple[Draws, ...], z: Array) -> Array:
    """Losses at the scored points: (n, m)."""
    found: list[Array] = []
    for parts, drawn in zip(models, draws, strict=True):
        one = parts[0]
        alone = len(parts) == 1
        found.append(one.centre + one.scale * one.mean(z) if alone else drawn.values[: len(z)].mean(axis=1))
    return np.column_stack(found)
