"""Who searches: our samplers as the product runs them (through Optuna), and peers from outside with the same starts.

Every peer is a class with `ask() -> x` and `tell(x, values, errors)`; all objectives are maximised.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
import optuna

from search.samplers import Problem, make_sampler
from search.samplers._types import PARTS, STDERR

from ._search_botorch import Botorch
from ._search_pymoo import Pymoo
from ._search_tasks import Array


class Peer(Protocol):
    """One search."""

    def ask(self) -> Array:
        """The next point (d,) to score."""
        ...

    def tell(self, x: Array, values: Array, errors: Array, parts: Array) -> None:
        """Its score; `parts` (p, 2) are those of the objectives that have some, with their errors."""
        ...


class Ours:
    """A sampler of `search.samplers`, by name, in an in-memory study. The starts come first for all of them."""

    def __init__(self, name: str, problem: Problem, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space: dict[str, optuna.distributions.BaseDistribution] = {
            f"x{i:02d}": optuna.distributions.FloatDistribution(0, 1) for i in range(problem.dimensions)
        }
        sampler = make_sampler(name, dimensions=problem.dimensions, seed=seed, problem=problem, space=self.space)
        self.study = optuna.create_study(directions=["maximize"] * len(problem.directions), sampler=sampler)
        for start in problem.starts:
            self.study.enqueue_trial(dict(zip(self.space, start, strict=True)))
        self.trial: optuna.Trial

    def ask(self) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trial = self.study.ask(self.space)
        return np.array([self.trial.params[name] for name in self.space])

    def tell(self, x: Array, values: Array, errors: Array, parts: Array) -> None:
        self.trial.set_user_attr(STDERR, errors.tolist())
        self.trial.set_user_attr(PARTS, parts.tolist())
        self.study.tell(self.trial, values.tolist())


class WithoutParts:
    """A peer that has no use for the parts of an objective."""

    def __init__(self, peer: Botorch) -> None:
        self.ask, self._peer = peer.ask, peer

    def tell(self, x: Array, values: Array, errors: Array, parts: Array) -> None:
        self._peer.tell(x, values, errors)


def make_peer(name: str, problem: Problem, seed: int) -> Peer:
    """A peer by name: `qlognehvi`, `pymoo-nsga2`, `pymoo-nsga3`, or a sampler of ours."""
    if name == "qlognehvi":
        return WithoutParts(Botorch(problem, seed))
    if name.startswith("pymoo-"):
        return Pymoo(name.removeprefix("pymoo-"), problem, seed)
    return Ours(name, problem, seed)
