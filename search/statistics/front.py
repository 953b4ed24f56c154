"""The front and its numbers: dominance, hypervolume, picks. How sure they are: `search.statistics.uncertainty`.

All functions take `values` (n, m) float64 as measured and `directions` (m,) of "max" | "min"; scores are finite by the
time they come here (`evaluators._types.Score` refuses others).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .aggregates import safety

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
DOUBT = 4.0  # standard errors: beyond any luck among thousands of points


def losses(values: Array, directions: Sequence[str]) -> Array:
    """The same points with every column to be minimised: (n, m)."""
    signs = np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    return np.asarray(np.reshape(values, (-1, len(directions))) * signs, dtype=np.float64)


def non_dominated(values: Array, directions: Sequence[str], feasible: Mask | None = None) -> Mask:
    """Which feasible points no other feasible point dominates: (n,) bool.

    A point dominates another when it is no worse on every objective and better on one; equal points do not dominate
    each other, so all of them stay.
    """
    import moocore

    allowed = np.ones(len(values), dtype=bool) if feasible is None else np.asarray(feasible, dtype=bool)
    mask = np.zeros(len(values), dtype=bool)
    if allowed.any():
        mask[allowed] = moocore.is_nondominated(losses(values, directions)[allowed], keep_weakly=True)
    return mask


def reference_point(values: Array, directions: Sequence[str]) -> Array:
    """A reference for the hypervolume: (m,), a tenth of the range worse than the worst of `values` on each objective.

    Taken once from the unmerged models, before any search starts, so that it is the same for all searches; where all
    values agree, a tenth below or above. Candidates worse than it on an objective add nothing.
    """
    worst = losses(values, directions).max(axis=0)
    spread = np.ptp(losses(values, directions), axis=0)
    signs = np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    return np.asarray((worst + 0.1 * np.where(spread > 0, spread, 1.0)) * signs)


def hypervolume(values: Array, directions: Sequence[str], reference: Sequence[float] | Array) -> float:
    """Volume between the points and the reference (Zitzler & Thiele 1999), in the product of the objectives' units."""
    import moocore

    if not len(values):
        return 0.0
    return float(moocore.hypervolume(losses(values, directions), ref=losses(np.array([reference]), directions)[0]))


def scaled(values: Array, directions: Sequence[str], front: Mask) -> Array:
    """Gains in [0, 1] on the front: 1 = the front's best on that objective, 0 = its worst: (n, m).

    An objective on which the whole front agrees is 0 everywhere: it cannot tell points apart.
    """
    loss = losses(values, directions)
    worst, best = loss[front].max(axis=0), loss[front].min(axis=0)
    span = np.where(worst > best, worst - best, 1.0)
    return np.asarray((worst - loss) / span)


def knee(values: Array, directions: Sequence[str], front: Mask) -> int:
    """Index of the front point farthest from the plane through the front's extremes (Das 1999).

    On gains scaled to [0, 1] that is the point with the greatest sum; the first one wins a tie.
    """
    total = scaled(values, directions, front).sum(axis=1)
    return int(np.where(front, total, -np.inf).argmax())


def best(values: Array, directions: Sequence[str], front: Mask, objective: int) -> int:
    """Index of the front point best on one objective; among equals, the one best on the others taken together."""
    gains = scaled(values, directions, front)
    chosen = gains[:, objective] + 1e-9 * gains.sum(axis=1)
    # On a front that agrees on this objective every gain is 0 and the others decide alone.
    return int(np.where(front, chosen, -np.inf).argmax())


def contenders(values: Array, errors: Array, directions: Sequence[str], sure: Mask) -> Mask:
    """Which points could be on the front if every score were off by `DOUBT` standard errors either way: (n,) bool.

    The others have no chance worth a look at their items: some point is better on every objective by more than that.

    Args:
        values: (n, m) as measured.
        errors: (n, m) their standard errors.
        directions: of the objectives.
        sure: (n,) the points that keep all constraints beyond doubt; others beat nobody.
    """
    loss, doubt = losses(values, directions), DOUBT * np.asarray(errors)
    worst = (loss + doubt)[sure]
    if not len(worst):
        return np.ones(len(loss), dtype=bool)
    rivals = worst[non_dominated(worst, ("min",) * loss.shape[1])]
    beaten = np.zeros(len(loss), dtype=bool)
    for rival in rivals:
        beaten |= (rival <= loss - doubt).all(axis=1) & (rival < loss - doubt).any(axis=1)
    return ~beaten


def pick(name: str, ids: Sequence[str], values: Array, objectives: Mapping[str, str], front: Mask) -> str:
    """The id of a named point of the front.

    Args:
        name: `knee`, `safest` (see `aggregates.safety`), `best-OBJECTIVE`, or `#ID`.
        ids: of the points, in the order of `values`.
        values: (n, m) on the split that the front was decided on.
        objectives: name -> direction, in the order of the columns.
        front: (n,) bool.

    Raises:
        ValueError: no such point, or an empty front; one line with the remedy.
    """
    names, directions = tuple(objectives), tuple(objectives.values())
    if not front.any():
        raise ValueError("the front is empty: no scored point is feasible; loosen a constraint or search longer")
    if name == "knee":
        return ids[knee(values, directions, front)]
    wanted = safety(names) or "safety" if name == "safest" else name.removeprefix("best-")
    if name == "safest" or name.startswith("best-"):
        if wanted not in names:
            raise ValueError(f"pick {name}: no objective is called {wanted}; the objectives are {', '.join(names)}")
        return ids[best(values, directions, front, names.index(wanted))]
    number = name.lstrip("#")
    if number not in ids:
        raise ValueError(f"pick {name}: no scored point has this id; `mergefront front RUN` lists them")
    return number


def summary(values: Array, directions: Sequence[str], feasible: Mask, reference: Sequence[float]) -> dict[str, Any]:
    """Front mask and hypervolume of the feasible points in one go."""
    mask = non_dominated(values, directions, feasible)
    return {"mask": mask, "hypervolume": hypervolume(values[mask], directions, reference)}
