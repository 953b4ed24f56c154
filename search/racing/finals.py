"""Finals: which candidates that were scored on a part of the items are worth the rest.

A race tells who is beaten, but where a sampler works well most candidates lie close to the front, and no honest test on
a part of the items tells those apart. A model of all scores can: it borrows from each point's neighbours. So candidates
stop before the last stage, and of those that stopped the ones are scored in full that are expected to add most to the
front's hypervolume, one after the other, each given those chosen before it (greedy choice; expected hypervolume is
submodular in the set of points, so the greedy set has at least 1 - 1/e of the best one's: Nemhauser et al. 1978).
Points that are good at the same place of the front so do not all go on: one of them is enough.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.samplers import _beliefs  # the models that `auto` proposes from: one belief, not two
from search.samplers._beliefs import DRAWS
from search.samplers._features import features
from search.samplers._gp import fit, paths
from search.samplers._types import Array, History, Problem, generator
from search.statistics.front import contenders, losses

FEWEST = 4  # scored points that a model can be made of
LEAST_GAIN = 0.001
"""Share of the hypervolume that a candidate must be expected to add to be scored on all items."""
EARLY, FEW = 5.0, 2
"""Before the end of a search a final asks for so many times the gain, and takes so many candidates at most."""
ROUNDS = 3
"""Of the last final: each asks a model that knows what the one before it has shown."""
Mask = NDArray[np.bool_]


def deserving(problem: Problem, seen: History, full: Mask, also: Array, least: float, seed: int) -> tuple[int, ...]:
    """Points to score in full, the most promising first.

    Args:
        problem: what is searched; its reference is that of the hypervolume.
        seen: n scored points, those scored in full and those scored in part.
        full: (n,) which of them were scored in full.
        also: (k, m) objectives of points outside the space that compete for the front (unmerged models).
        least: share of the expected hypervolume that a point must be expected to add.
        seed: of the draws.

    Returns:
        Indices of points not in `full`. Everything that can keep the constraints where there are too few scores for a
        model.
    """
    held = np.flatnonzero(~full & _hopeful(problem, seen, full))
    if len(seen.x) < FEWEST or not len(held):
        return tuple(map(int, held))
    assert problem.reference is not None, "finals need a reference for the hypervolume"
    loss, allowed = _draws(problem, seen, full, generator(seed, int(full.sum())))
    reference = losses(np.array([problem.reference]), problem.directions)[0]
    sets = [
        _nondominated(np.concatenate([losses(also, problem.directions), loss[full & allowed[:, s], :, s]]))
        for s in range(DRAWS)
    ]
    volumes = np.array([_volume(points, reference) for points in sets])
    gains = dict.fromkeys(map(int, held), np.inf)
    chosen: list[int] = []
    while gains:
        index, after = _best(gains, sets, volumes, loss, allowed, reference)
        if gains[index] < least * after.mean() or gains[index] <= 0:
            break
        chosen.append(index)
        del gains[index]
        sets = [
            _nondominated(np.concatenate([points, loss[[index], :, s]])) if allowed[index, s] else points
            for s, points in enumerate(sets)
        ]
        volumes = after
    return tuple(chosen)


def places(deserving: int, turn: int) -> int:
    """How many of those that deserve it go on: all in the last round of the last final, half in the rounds before it.

    Args:
        deserving: how many deserve it.
        turn: round of the last final, from 1; 0 before the end of the search.
    """
    if not turn:
        return min(FEW, deserving)
    return deserving if turn == ROUNDS else -(-deserving // 2)


def _hopeful(problem: Problem, seen: History, full: Mask) -> Mask:
    """Which points no luck of the measurements keeps off the front."""
    sure = full & np.asarray((seen.constraints <= 0).all(axis=1))
    return contenders(seen.values, seen.stderr, problem.directions, sure)


def _draws(problem: Problem, seen: History, full: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
    """Losses (n, m, draws) from the models' posterior, and whether each point keeps the constraints (n, draws)."""
    count, z = len(seen.x), features(problem, seen.x)
    none = np.zeros((0, z.shape[1]))
    objectives = _beliefs.draws(problem, _beliefs.models(problem, seen, z), none, rng)
    allowed = np.ones((count, DRAWS), dtype=bool)
    for column in seen.constraints.T:
        allowed &= paths(fit(z, column, None), none, DRAWS, rng).values[:count] <= 0
    # What was scored in full keeps its constraints or does not, as measured: that is what the front goes by.
    allowed[full] = np.all(seen.constraints[full] <= 0, axis=1, keepdims=True)
    return np.stack([draw.values[:count] for draw in objectives], axis=1), allowed


def _best(
    gains: dict[int, float], sets: list[Array], volumes: Array, loss: Array, allowed: Mask, reference: Array
) -> tuple[int, Array]:
    """The point that adds most, and the volumes with it; updates `gains`.

    Gains only fall as the set grows, so one that was below the best of now need not be looked at (Minoux 1978).
    """
    best, found = -1, volumes
    for index in sorted(gains, key=lambda i: -gains[i]):
        if best >= 0 and gains[index] <= gains[best]:
            break
        after = volumes.copy()
        for s, points in enumerate(sets):
            point = loss[index, :, s]
            if allowed[index, s] and (point < reference).all() and not (points <= point).all(axis=1).any():
                after[s] = _volume(np.concatenate([points, point[None]]), reference)
        gains[index] = float((after - volumes).mean())
        if best < 0 or gains[index] > gains[best]:
            best, found = index, after
    return best, found


def _nondominated(loss: Array) -> Array:
    import moocore

    return np.asarray(loss[moocore.is_nondominated(loss)]) if len(loss) else loss


def _volume(loss: Array, reference: Array) -> float:
    import moocore

    return float(moocore.hypervolume(loss, ref=reference)) if len(loss) else 0.0
