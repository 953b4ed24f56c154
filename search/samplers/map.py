"""MAP (Li et al., ICLR 2025, arXiv 2406.07529): quadratic surrogates, and their front."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._features import features
from ._types import Array, History, Problem, generator, losses, next_start, snap
from .qmc import sobol

Predict = Callable[[Array], tuple[Array, Array]]  # points -> (losses, violation of the constraints)

POPULATION, GENERATIONS = 100, 25  # of the paper's own code
RIDGE = 1e-6


def map(problem: Problem, history: History, pending: Array, seed: int, number: int) -> Array:
    """A point of the surrogates' front, as far as can be from what was scored.

    The first points are `starts` and a Sobol sequence, until each surrogate could be fitted (or four points a
    dimension: beyond that the smallest coefficients that fit are taken). The rest re-evaluates the predicted front for
    real, refitting after each point. Two departures from the published code: the search is bounded to the sampled box
    instead of [-3, 3], and the quadratic is not wrapped in a sigmoid. Constraints are fitted as the objectives are.
    """
    start = next_start(problem, history, pending)
    if start is not None:
        return start
    seen = history.only(history.scored)
    terms = (problem.dimensions + 1) * (problem.dimensions + 2) // 2
    if len(seen.x) < min(terms, 4 * problem.dimensions + 4):
        return snap(problem, sobol(problem.dimensions, seed, number, 1)[0])
    outputs = np.column_stack([losses(problem, seen.values), seen.constraints])
    centre, scale = outputs.mean(axis=0), np.maximum(outputs.std(axis=0), 1e-12)
    design = _quadratic(features(problem, seen.x))
    ridge = RIDGE * len(design) * np.eye(design.shape[1])
    fitted = np.linalg.solve(design.T @ design + ridge, design.T @ ((outputs - centre) / scale))
    count = len(problem.directions)

    def predict(x: Array) -> tuple[Array, Array]:
        found = _quadratic(features(problem, x)) @ fitted
        return found[:, :count], np.maximum(found[:, count:] * scale[count:] + centre[count:], 0.0).sum(axis=1)

    rng = generator(seed, number)
    front = _nsga3(problem, predict, seen.x, rng)
    predicted, _ = predict(front)
    taken = np.concatenate([(outputs[:, :count] - centre[:count]) / scale[:count], *_pending(predict, pending)])
    distance = np.linalg.norm(predicted[:, None] - taken[None], axis=2).min(axis=1)
    return np.asarray(front[int(distance.argmax())])


def _pending(predict: Predict, pending: Array) -> tuple[Array, ...]:
    return (predict(pending)[0],) if len(pending) else ()


def _quadratic(z: Array) -> Array:
    """1, z_i and z_i z_j for i <= j: (n, (f + 1)(f + 2) / 2)."""
    first, second = np.triu_indices(z.shape[1])
    return np.column_stack([np.ones(len(z)), z, z[:, first] * z[:, second]])


def _nsga3(problem: Problem, predict: Predict, seen: Array, rng: np.random.Generator) -> Array:
    """NSGA-III (Deb & Jain 2014) on a function that costs nothing: the final population's first front (k, d)."""
    import moocore

    directions = _directions(len(problem.directions))
    x = np.concatenate([seen, rng.random((POPULATION, problem.dimensions))])
    for _ in range(GENERATIONS + 1):
        mates = x[rng.integers(len(x), size=(POPULATION, 2))]
        blend = rng.random((POPULATION, problem.dimensions)) < 0.5
        children = np.where(blend, mates[:, 0], mates[:, 1])
        mutate = rng.random(children.shape) < np.maximum(1.0 / problem.dimensions, 0.2)
        children = snap(problem, children + mutate * rng.normal(0.0, 0.1, children.shape))
        x = np.unique(np.concatenate([x, children]), axis=0)
        loss, violation = predict(x)
        # Feasible points come before others, and less infeasible before more infeasible ones.
        if (violation <= 0).any():
            x, loss = x[violation <= 0], loss[violation <= 0]
        else:
            nearest = np.argsort(violation, kind="stable")[:POPULATION]
            x, loss = x[nearest], loss[nearest]
        kept: list[int] = []
        left = np.arange(len(x))
        while len(kept) < min(POPULATION, len(x)):
            first = left[moocore.is_nondominated(loss[left], keep_weakly=True)]
            if len(kept) + len(first) > POPULATION:
                low = loss[moocore.is_nondominated(loss, keep_weakly=True)]
                unit = (loss[first] - low.min(axis=0)) / np.maximum(np.ptp(low, axis=0), 1e-12)
                first = first[_niches(unit, directions, POPULATION - len(kept))]
            kept += first.tolist()
            left = np.setdiff1d(left, first)
        x, loss = x[kept], loss[kept]
    return np.asarray(x[moocore.is_nondominated(loss, keep_weakly=True)])


def _directions(objectives: int) -> Array:
    """Evenly spread unit vectors with positive entries: (about 100, m)."""
    if objectives == 1:
        return np.ones((1, 1))
    from scipy.stats import norm

    raw = np.abs(norm.ppf(np.clip(sobol(objectives, 0, 0, 128), 1e-6, 1 - 1e-6)))
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True))


def _niches(unit: Array, directions: Array, count: int) -> list[int]:
    """Indices of `count` points, one for each reference direction in turn, nearest to it first."""
    along = unit @ directions.T
    off = np.sqrt(np.maximum((unit**2).sum(axis=1)[:, None] - along**2, 0.0))
    niche, distance = off.argmin(axis=1), off.min(axis=1)
    rank = np.empty(len(unit), dtype=int)
    for index in range(len(directions)):
        members = np.flatnonzero(niche == index)
        rank[members[np.argsort(distance[members], kind="stable")]] = np.arange(len(members))
    chosen: list[int] = np.lexsort((distance, rank))[:count].tolist()
    return chosen
