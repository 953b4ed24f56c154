"""Optuna's NSGA-III."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._types import Problem
from .nsga2 import population

if TYPE_CHECKING:
    import optuna


def nsga3(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """NSGA-III (Deb & Jain 2014): spread by reference directions, made for four objectives and more."""
    import optuna

    return optuna.samplers.NSGAIIISampler(population_size=population(problem), seed=seed)
