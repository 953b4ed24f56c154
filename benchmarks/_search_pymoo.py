"""pymoo's evolutionary algorithms."""

from __future__ import annotations

from typing import Any

import numpy as np

from search.samplers import Problem

from ._search_tasks import Array


class Pymoo:
    """pymoo's NSGA-II or NSGA-III; the first generation is the starts and random points."""

    def __init__(self, kind: str, problem: Problem, seed: int) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.algorithms.moo.nsga3 import NSGA3
        from pymoo.core.problem import Problem as PymooProblem
        from pymoo.util.ref_dirs import get_reference_directions

        from search.samplers.nsga2 import population

        size = population(problem)
        rng = np.random.default_rng(seed)
        starts = np.array(problem.starts).reshape(-1, problem.dimensions)
        first = np.concatenate([starts, rng.random((max(0, size - len(starts)), problem.dimensions))])
        count = len(problem.directions)
        if kind == "nsga3":
            directions = get_reference_directions("energy", count, size, seed=1)
            algorithm = NSGA3(ref_dirs=directions, pop_size=size, sampling=first)
        else:
            algorithm = NSGA2(pop_size=size, sampling=first)
        algorithm.setup(
            PymooProblem(n_var=problem.dimensions, n_obj=count, xl=0.0, xu=1.0),
            termination=("n_gen", 10**6),
            seed=seed,
            verbose=False,
        )
        self.algorithm = algorithm
        self.waiting: list[Array] = []
        self.values: list[Array] = []
        self.generation: Any = None

    def ask(self) -> Array:
        if not self.waiting:
            self.generation = self.algorithm.ask()
            self.waiting = list(self.generation.get("X"))
            self.values = []
        return np.asarray(self.waiting[0], dtype=np.float64)

    def tell(self, x: Array, values: Array, errors: Array, parts: Array) -> None:
        self.waiting.pop(0)
        self.values.append(-values)
        if not self.waiting:
            self.generation.set("F", np.array(self.values))
            self.algorithm.tell(infills=self.generation)
