"""Samplers by name: one file, one function, one sampler; the file name is the name.

A sampler is one of two functions, told apart by how many arguments they take:

* `name(problem, history, pending, seed, number) -> point`: ours. A pure function of what was scored (`_types.Propose`).
* `name(problem, seed) -> optuna.samplers.BaseSampler`: Optuna's own.

Either way the next point depends on the study's trials and the seed alone, so a search rebuilt from its database goes
on as if it had not stopped. A sampler of one's own is named "package.module:function" and has either form.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._types import Array, History, Problem, Propose

if TYPE_CHECKING:
    import optuna

NAMES = ("auto", *sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py") if file.stem != "auto"))

DOUBT = 2.5  # standard errors

__all__ = ["NAMES", "History", "Problem", "Propose", "believed", "load_sampler", "make_sampler"]


def make_sampler(
    name: str,
    *,
    dimensions: int,
    seed: int,
    problem: Problem | None = None,
    space: Mapping[str, optuna.distributions.BaseDistribution] | None = None,
) -> optuna.samplers.BaseSampler:
    """A sampler for an Optuna study.

    Args:
        name: one of `NAMES`, or "package.module:function".
        dimensions: numbers to search, for the length of a random start.
        seed: of everything the sampler draws.
        problem: what is searched, for our own samplers; None: read from the study.
        space: name -> distribution, in the problem's order; None: what the study's trials have in common.

    Raises:
        ValueError: an unknown name.
    """
    function = load_sampler(name)
    with warnings.catch_warnings():
        import optuna

        # Multivariate TPE, GP and NSGA-III are marked experimental; they are chosen on purpose (docs/decisions.md).
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        from ._optuna import Generations, PureSampler, Reseeded

        if _is_pure(function):
            return PureSampler(function, problem, space, seed)
        known = problem or Problem(dimensions, ())

        def build(trial_seed: int) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return function(known, trial_seed)

        evolves = isinstance(build(0), optuna.samplers.NSGAIISampler | optuna.samplers.NSGAIIISampler)
        return Generations(build, seed) if evolves else Reseeded(build, seed)


def load_sampler(name: str) -> Callable[..., Any]:
    """The function that `name` stands for.

    Raises:
        ValueError: no such name; one line with the choices.
    """
    if name in NAMES:
        found = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    elif ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"no sampler {name!r}: {error}") from None
    else:
        raise ValueError(f"no sampler {name!r}; there are {', '.join(NAMES)}, or your own as package.module:function")
    assert callable(found)
    return found  # type: ignore[no-any-return]  # getattr is Any; callable() above is the check


def believed(problem: Problem, x: Array, values: Array, stderr: Array) -> Array:
    """What a model of all scores believes about each point: (n, m), in the objectives' units.

    A measured value is the truth plus luck, and the points on a measured front are the lucky ones. The mean of a
    Gaussian process with the known noise (`_gp`) borrows from each point's neighbours instead; a front by these values
    holds the points that are good, not those that were lucky. Where the model contradicts a measurement by more than
    `DOUBT` standard errors it is the model that is wrong (a corner far from all other points, say), and the measured
    value stays.

    Args:
        problem: as searched.
        x: (n, d) points of the unit cube, all scored.
        values: (n, m) as measured.
        stderr: (n, m) their standard errors.
    """
    import numpy as np

    from ._features import features
    from ._gp import fit

    z = features(problem, x)
    models = [fit(z, values[:, j], stderr[:, j]) for j in range(values.shape[1])]
    means = np.column_stack([model.centre + model.scale * model.mean(z) for model in models])
    return np.where(np.abs(values - means) <= DOUBT * stderr, means, values)


def _is_pure(function: Callable[..., Any]) -> bool:
    return len(inspect.signature(function).parameters) == 5
