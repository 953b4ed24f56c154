"""A scrambled Sobol sequence: evenly spread points."""

from __future__ import annotations

import warnings

import numpy as np

from ._types import Array, History, Problem, next_start, snap


def qmc(problem: Problem, history: History, pending: Array, seed: int, number: int) -> Array:
    """Point `number` of the Sobol sequence, scrambled by `seed` (Owen 1998)."""
    start = next_start(problem, history, pending)
    return snap(problem, sobol(problem.dimensions, seed, number, 1)[0]) if start is None else start


def sobol(dimensions: int, seed: int, skip: int, count: int) -> Array:
    """`count` points of a scrambled Sobol sequence after the first `skip`: (count, dimensions)."""
    from scipy.stats import qmc as scipy_qmc

    sequence = scipy_qmc.Sobol(dimensions, scramble=True, rng=seed)
    if skip:
        sequence.fast_forward(skip)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its balance needs powers of 2; a sequence is cut anywhere
        return np.asarray(sequence.random(count), dtype=np.float64)
