"""Our own sampler: few scores, known noise, a whole front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from . import _beliefs, _moves
from ._beliefs import DRAWS
from ._features import features
from ._gp import Paths, doubted, fit, paths
from ._improvement import Improvement, improvement
from ._parts import Draws
from ._types import Array, History, Problem, feasible, generator, losses, next_start, snap
from .qmc import sobol

RAYS = 64
SCREEN_DRAWS = 16
CLIMBERS, STEPS = 16, 24
TOO_CLOSE = 1e-5
LITTLE, DOUBT = 0.01, 3
"""Every third point doubts the model where the best point promises less than a hundredth of the front's volume."""


def auto(problem: Problem, history: History, pending: Array, seed: int, number: int) -> Array:
    """The point that is expected to add most to the front's hypervolume.

    1. `starts` (corners, the uniform merge), then a few points of a Sobol sequence.
    2. A model of each objective and constraint (`_beliefs`, `_gp`): quadratic trend, smooth residual, known noise. An
       objective that is the worst of several languages is made of a model of each language (`_parts`).
    3. Draws of the front from the models, with points under way drawn along; the expected hypervolume improvement over
       them (`_improvement`), climbed from the best of many points around, between and away from the present front.
    4. Where that promises little, every third point is asked of the same models with half their lengths (`doubted`).

    Failed points teach a constraint of their own; no score is invented for them.
    """
    start = next_start(problem, history, pending)
    if start is not None:
        return start
    seen = history.only(history.scored)
    if len(seen.x) + len(pending) < len(problem.starts) + warm_up(problem):
        return snap(problem, sobol(problem.dimensions, seed, number, 1)[0])
    if len(seen.x) < 3:
        return snap(problem, generator(seed, number).random(problem.dimensions))
    # Matrices this small lose with more threads: on a busy machine, a factor of ten.
    with threadpool_limits(1, "blas"):
        return _most_promising(problem, history, pending, seed, number)


def _most_promising(problem: Problem, history: History, pending: Array, seed: int, number: int) -> Array:
    seen, rng = history.only(history.scored), generator(seed, number)
    z, waiting = features(problem, seen.x), features(problem, pending)
    models = _beliefs.models(problem, seen, z)
    draws = _beliefs.draws(problem, models, waiting, rng)
    believed = _beliefs.believed(models, draws, z)
    bounds = [fit(z, seen.constraints[:, c], None) for c in range(seen.constraints.shape[1])]
    front = _front(believed, feasible(seen))
    reference, scale = _frame(problem, believed, front)

    def searched(draws: tuple[Draws, ...]) -> tuple[Array, float]:
        limits = tuple(paths(model, waiting, DRAWS, rng) for model in bounds)
        success = _success(problem, history, rng)
        gain = improvement(draws, limits, success, reference, scale, RAYS, int(rng.integers(2**31)))
        best, promised = _search(problem, gain, z[front], seed, number, rng)
        return best, promised / max(float(gain.reach.mean()), 1e-300)

    best, promised = searched(draws)
    if number % DOUBT == DOUBT - 1 and promised < LITTLE:
        doubts = tuple(tuple(map(doubted, parts)) for parts in models)
        best, _ = searched(_beliefs.draws(problem, doubts, waiting, rng))
    known = np.concatenate([history.x, pending])
    for point in _moves.points(problem, best):
        if np.abs(known - point).max(axis=1).min() > TOO_CLOSE:
            return np.asarray(point)
    return snap(problem, rng.random(problem.dimensions))


def warm_up(problem: Problem) -> int:
    """Space-filling points before the model speaks: few where starts show the scores' spread already."""
    return 1 + problem.dimensions // 4 if problem.starts else 2 + problem.dimensions // 2


def _front(loss: Array, allowed: NDArray[np.bool_]) -> Array:
    """Indices of the feasible points that no other one dominates; of all points where none is feasible."""
    import moocore

    among = np.flatnonzero(allowed) if allowed.any() else np.arange(len(loss))
    return np.asarray(among[moocore.is_nondominated(loss[among], keep_weakly=True)])


def _frame(problem: Problem, loss: Array, front: Array) -> tuple[Array, Array]:
    """Reference point and unit of each loss.

    The problem's own reference, unless the front does not reach it yet: then no point would promise any volume, and the
    front itself tells which way is better.
    """
    low, high = loss[front].min(axis=0), loss[front].max(axis=0)
    spread = np.maximum(high - low, np.maximum(0.05 * np.ptp(loss, axis=0), 1e-9))
    reference = high + 0.5 * spread  # a tight one would call the tips of the front worthless before they are found
    if problem.reference is not None:
        given = losses(problem, np.array([problem.reference]))[0]
        reference = given if (loss[front] < given).all(axis=1).any() else np.maximum(given, reference)
    return reference, np.maximum(reference - low, spread)


def _success(problem: Problem, history: History, rng: np.random.Generator) -> tuple[Paths, ...]:
    """Draws of a constraint that asks for scoring to succeed, learned from what failed; none where nothing did."""
    failed = ~history.scored
    if not failed.any():
        return ()
    model = fit(features(problem, history.x), np.where(failed, 0.5, -0.5), None)
    return (paths(model, np.zeros((0, model.z.shape[1])), DRAWS, rng),)


def _search(
    problem: Problem,
    gain: Improvement,
    front: Array,
    seed: int,
    number: int,
    rng: np.random.Generator,
) -> tuple[Array, float]:
    """Points of the greatest improvement found, best first: (k, f); and the improvement by the first."""
    pool = np.concatenate(
        [
            features(problem, snap(problem, sobol(problem.dimensions, seed + 1, 256 * (number % 64), 256))),
            _moves.near(problem, front, 384, rng),
            _moves.between(problem, front, 128, rng),
        ]
    )
    coarse = gain(pool, SCREEN_DRAWS)
    pool = pool[np.argsort(-coarse, kind="stable")[:64]]
    fine = gain(pool)
    order = np.argsort(-fine, kind="stable")
    climbed, height = _climb(problem, gain, pool[_apart(pool, order)])
    found, value = np.concatenate([climbed, pool]), np.concatenate([height, fine])
    order = np.argsort(-value, kind="stable")
    return np.asarray(found[order]), float(value[order[0]])


def _apart(pool: Array, order: NDArray[np.intp]) -> list[int]:
    """Indices of good points that are not all neighbours of the best one."""
    chosen: list[int] = [int(order[0])]
    for index in order[1:]:
        if len(chosen) == CLIMBERS:
            break
        if np.abs(pool[chosen] - pool[index]).max(axis=1).min() > 0.02:
            chosen.append(int(index))
    return chosen


def _climb(problem: Problem, gain: Improvement, z: Array) -> tuple[Array, Array]:
    """Projected gradient ascent with a step size for each point: longer after a success, shorter after a failure."""
    value, slope = gain.gradient(z)
    step = np.full(len(z), 0.05)
    mask = _moves.free(problem, z.shape[1])
    for _ in range(STEPS):
        length = np.linalg.norm(slope * mask, axis=1, keepdims=True)
        tried = _moves.repaired(problem, z + step[:, None] * slope * mask / np.maximum(length, 1e-300))
        new, new_slope = gain.gradient(tried)
        better = new > value
        z, value = np.where(better[:, None], tried, z), np.where(better, new, value)
        slope = np.where(better[:, None], new_slope, slope)
        step = np.where(better, 1.5 * step, 0.4 * step)
    return z, value
