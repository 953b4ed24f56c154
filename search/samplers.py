"""Samplers by name. Always stated in full: Optuna's defaults changed in 5.0."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

NAMES = ("auto", "tpe", "nsga2", "random", "qmc", "gp")


def make_sampler(name: str, *, dimensions: int, seed: int) -> optuna.samplers.BaseSampler:
    """An Optuna sampler.

    Args:
        name: one of `NAMES`; `auto` is multivariate TPE today.
        dimensions: numbers to search, for the length of the random start.
        seed: of everything the sampler draws.

    Raises:
        ValueError: an unknown name.
    """
    import optuna

    samplers = optuna.samplers
    with warnings.catch_warnings():
        # Multivariate TPE, GP and QMC are marked experimental; they are chosen on purpose (docs/decisions.md).
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name in ("auto", "tpe"):
            # A start of 2 to 3 points a dimension; independent sampling would miss that weights act together.
            return samplers.TPESampler(
                multivariate=True, constant_liar=True, n_startup_trials=4 + 2 * dimensions, seed=seed
            )
        if name == "nsga2":
            return samplers.NSGAIISampler(population_size=max(8, 4 * dimensions), seed=seed)
        if name == "random":
            return samplers.RandomSampler(seed=seed)
        if name == "qmc":
            return samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
        if name == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=4 + 2 * dimensions, deterministic_objective=False)
    raise ValueError(f"no sampler {name!r}; there are {', '.join(NAMES)}")
