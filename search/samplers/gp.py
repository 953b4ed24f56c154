"""Optuna's Gaussian-process sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._types import Problem

if TYPE_CHECKING:
    import optuna


def gp(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's GP with expected hypervolume improvement; it estimates the noise and knows no standard errors."""
    import optuna

    return optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=4 + 2 * problem.dimensions, deterministic_objective=False
    )
