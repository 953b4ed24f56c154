"""Optuna's tree-structured Parzen estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._types import Problem

if TYPE_CHECKING:
    import optuna


def tpe(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """Multivariate TPE: independent sampling would miss that weights act together. A start of 2 points a dimension."""
    import optuna

    return optuna.samplers.TPESampler(
        multivariate=True, constant_liar=True, n_startup_trials=4 + 2 * problem.dimensions, seed=seed
    )
