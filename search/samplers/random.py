"""Uniform random points."""

from __future__ import annotations

from ._types import Array, History, Problem, generator, next_start, snap


def random(problem: Problem, history: History, pending: Array, seed: int, number: int) -> Array:
    """A uniform point of the cube, drawn from (seed, number) alone."""
    start = next_start(problem, history, pending)
    return snap(problem, generator(seed, number).random(problem.dimensions)) if start is None else start
