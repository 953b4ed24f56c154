"""Optuna's NSGA-II."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._types import Problem

if TYPE_CHECKING:
    import optuna


def nsga2(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """NSGA-II (Deb et al. 2002). Optuna's population of 50 would spend a typical budget on its random start."""
    import optuna

    return optuna.samplers.NSGAIISampler(population_size=population(problem), seed=seed)


def population(problem: Problem) -> int:
    """Individuals of a generation."""
    return min(50, max(8, 4 * problem.dimensions))
