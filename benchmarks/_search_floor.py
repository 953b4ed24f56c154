"""How few evaluations could do: what is needed by who knows the true front."""

from __future__ import annotations

import moocore
import numpy as np

from ._search_tasks import Array

POOL, MOST = 500, 200


def fewest(starts: Array, front: Array, reference: Array, level: float) -> int | None:
    """Evaluations to a share of the true front's hypervolume: the starts, then points of the front, best gain first.

    The greedy order is no search, and close to the best: hypervolume is submodular in the set of points.

    Args:
        starts: (s, m) true objectives of what every sampler scores first, to be maximised.
        front: (k, m) points of the true front; of more than `POOL` a random part is chosen from.
        reference: (m,) what the hypervolume counts from.
        level: share of the front's hypervolume.

    Returns:
        None where `MOST` do not suffice.
    """

    def volume(points: Array) -> float:
        return float(moocore.hypervolume(points, ref=reference, maximise=True)) if len(points) else 0.0

    wanted = level * volume(front)
    pool = np.random.default_rng(0).permutation(front)[:POOL]
    chosen = starts
    while volume(chosen) < wanted:
        if len(chosen) >= MOST:
            return None
        gains = [volume(np.concatenate([chosen, point[None]])) for point in pool]
        chosen = np.concatenate([chosen, pool[[int(np.argmax(gains))]]])
    return len(chosen)
