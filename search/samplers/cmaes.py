"""CMA-ES on weighted sums, the way of mergekit-evolve and of CMA-ES recycling (arXiv 2412.04144), for a whole front."""

from __future__ import annotations

import numpy as np

from ._types import Array, History, Problem, generator, losses, next_start, snap

SIGMA = 0.25  # of the unit cube; mergekit-evolve starts at about the same share of its range


def cmaes(problem: Problem, history: History, pending: Array, seed: int, number: int) -> Array:
    """The next point of one of several independent CMA-ES runs, one for each weighting of the objectives.

    Runs take turns. A run is replayed from the history at every question: whole generations of its own points are told
    in order, so nothing is kept between questions. Scores are scaled by the range seen so far; failed and infeasible
    points rank behind all others. Needs the package `cmaes`.
    """
    from cmaes import CMA

    start = next_start(problem, history, pending)
    if start is not None:
        return start
    weights = weightings(len(problem.directions))
    turn = number % len(weights)
    mine = history.only(history.number % len(weights) == turn)
    cost = _costs(problem, history, mine, weights[turn])
    # `cmaes` wants two dimensions at least: a second one is told and ignored.
    mine_x = mine.x if problem.dimensions > 1 else np.column_stack([mine.x, np.full(len(mine.x), 0.5)])
    optimizer = CMA(
        mean=np.full(mine_x.shape[1], 0.5),
        sigma=SIGMA,
        bounds=np.tile([0.0, 1.0], (mine_x.shape[1], 1)),
        seed=int(generator(seed, number).integers(2**31)),
    )
    size = optimizer.population_size
    for first in range(0, len(mine_x) - size + 1, size):
        generation = range(first, first + size)
        # Points on a bound may have been moved there; CMA-ES takes any points it is told.
        optimizer.tell([(mine_x[i], float(cost[i])) for i in generation])
        if optimizer.should_stop():
            break
    return snap(problem, np.asarray(optimizer.ask())[: problem.dimensions])


def weightings(objectives: int) -> Array:
    """Weights on the objectives, one row for each run: all alike, then each objective stressed in turn."""
    if objectives == 1:
        return np.ones((1, 1))
    alike = np.full((1, objectives), 1.0 / objectives)
    return np.concatenate([alike, 0.2 * alike + 0.8 * np.eye(objectives)])


def _costs(problem: Problem, history: History, mine: History, weights: Array) -> Array:
    """Scaled weighted sum of losses of `mine`; what cannot be on the front costs more than everything else: (n,)."""
    if not len(mine.x):
        return np.zeros(0)
    everything = losses(problem, history.values[history.scored])
    if not len(everything):
        return np.zeros(len(mine.x))
    low, high = everything.min(axis=0), everything.max(axis=0)
    cost = ((losses(problem, mine.values) - low) / np.where(high > low, high - low, 1.0)) @ weights
    violation = np.maximum(mine.constraints, 0.0).sum(axis=1)
    cost = np.where(violation > 0, 2.0 + violation, cost)
    return np.asarray(np.where(np.isfinite(cost), cost, 1e6))
