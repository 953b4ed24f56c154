"""How few evaluations could do: what is needed by who knows the true front."""

from __future__ import annotations

import numpy as np

from ._search_tasks import Array, volume

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
    wanted = level * volume(front, reference)
    pool = np.random.default_rng(0).permutation(front)[:POOL]
    chosen = starts
    while volume(chosen, reference) < wanted:
        if len(chosen) >= MOST:
            return None
        gains = [volume(np.concatenate([chosen, point[None]]), reference) for point in pool]
        chosen = np.concatenate([chosen, pool[[int(np.argmax(gains))]]])
    return len(chosen)
