"""How scores would have come out on other items: draws of every number that a decision hangs on.

A cluster bootstrap (Cameron, Gelbach & Miller 2008, doi:10.1162/rest.90.3.414): in each draw whole groups of items are
taken with replacement, the same for all points and for all numbers made of one evaluator, so that what points have in
common (hard items, hard templates) cancels where they are compared. Aggregates over languages are aggregated again in
every draw. Evaluators are drawn apart, unless they score the very same groups.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search._recipe.constraints import Constraint

from . import aggregates, front
from .aggregates import Aggregate

if TYPE_CHECKING:
    from search.scoring.objective import Grader

Array = NDArray[np.float64]
Values = Mapping[str, NDArray[Any]]
"""Evaluator -> (p, n) results of p points on the first n items of its order."""

RESAMPLES = 400
LEVEL = 0.9
FLOOR = 0.02  # of a direction's spread is true at least: an estimate of none at all would put all points in one place


@dataclass(frozen=True)
class Layout:
    """What is known of one evaluator's items beside their results: group and language of each, in the items' order."""

    groups: tuple[str, ...]
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Quantity:
    """A number made of one evaluator's results, and which of its languages are the worst."""

    aggregate: Aggregate
    larger_is_better: bool = True

    @property
    def evaluator(self) -> str:
        """Whose results it is made of."""
        return self.aggregate.evaluator


def objectives_of(objectives: Mapping[str, str]) -> tuple[Quantity, ...]:
    """The quantities of a recipe's objectives (text of an aggregate -> "max" or "min")."""
    return tuple(Quantity(aggregates.parse(name), way == "max") for name, way in objectives.items())


def bounded(constraints: Sequence[Constraint]) -> tuple[Quantity, ...]:
    """The quantity that each constraint bounds."""
    return tuple(Quantity(constraint.score, constraint.larger_is_better) for constraint in constraints)


def layouts_of(graders: Sequence[Grader], split: str) -> dict[str, Layout]:
    """Evaluator -> layout of its items of a split."""
    return {
        grader.name: Layout(
            tuple(item.group for item in grader.split(split)), tuple(item.language for item in grader.split(split))
        )
        for grader in graders
    }


def draws(
    layouts: Mapping[str, Layout],
    values: Values,
    quantities: Sequence[Quantity],
    *,
    resamples: int = RESAMPLES,
    seed: int,
) -> Array:
    """Every quantity of every point in each draw: (p, resamples, q).

    Args:
        layouts: of every evaluator that a quantity names; may cover more items than `values` do.
        values: results, finite; the same items for all points.
        quantities: what is asked for.
        resamples: number of draws.
        seed: the same seed and groups give the same draws.
    """
    return np.stack([_drawn(layouts, values, quantity, resamples, seed) for quantity in quantities], axis=-1)


def measured(layouts: Mapping[str, Layout], values: Values, quantities: Sequence[Quantity]) -> Array:
    """Every quantity of every point as measured: (p, q)."""
    found = []
    for quantity in quantities:
        x = np.asarray(values[quantity.evaluator], dtype=np.float64)
        languages = layouts[quantity.evaluator].languages[: x.shape[1]]
        found.append(aggregates.measured(quantity.aggregate, x, languages, quantity.larger_is_better))
    return np.stack(found, axis=-1)


def margins(constraints: Sequence[Constraint], drawn: Array, base: Array) -> Array:
    """How far every draw is on the wrong side of each constraint, <= 0 keeps it: (..., c).

    Args:
        constraints: c of them.
        drawn: (..., c) quantities that the constraints bound, see `bounded`.
        base: (..., c) the base's, in the same draws.
    """
    columns = []
    for index, constraint in enumerate(constraints):
        bound = constraint.offset + (constraint.factor * base[..., index] if constraint.relative == "base" else 0.0)
        gap = bound - drawn[..., index]
        columns.append(gap if constraint.op == ">=" else -gap)
    return np.stack(columns, axis=-1) if columns else np.zeros((*drawn.shape[:-1], 0))


def shrunk(values: Array, drawn: Array) -> Array:
    """Draws of the points' true values, where `drawn` are draws of what would be measured on other items: same shape.

    Measured values are farther apart than true ones, most of all across a front on which many points are nearly as
    good, and draws around them add the noise a second time: bluntly counted, too few points would seem to be on the
    front. The points' own spread says how much to take back (empirical Bayes; Efron & Morris 1973,
    doi:10.1080/01621459.1973.10481350, in m dimensions): with S the covariance of the measured values over the points,
    V that of the noise that is each point's own, and W = (S - V) S^-1, the true values are drawn around
    mean + W (value - mean) with covariance W V. What all points have in common is left as drawn: it moves no point
    past another.

    Args:
        values: (p, m) as measured, of points that are comparable (those that could be on the front).
        drawn: (p, r, m).
    """
    if len(values) < values.shape[1] + 3:
        return drawn
    noise = drawn - values[:, None]
    common = noise.mean(axis=0, keepdims=True)
    own = noise - common
    spread = np.atleast_2d(np.cov(values.T))
    spread = spread + 1e-9 * max(1e-12, float(np.trace(spread))) * np.eye(len(spread))
    lower = np.linalg.cholesky(spread)
    inverse = np.linalg.inv(lower)
    variance = np.einsum("prm,prk->mk", own, own) / own[..., 0].size
    share, axes = np.linalg.eigh(inverse @ variance @ inverse.T)
    kept = np.clip(1.0 - share, FLOOR, 1.0)
    shrink, root = ((lower @ (axes * k) @ axes.T @ inverse).T for k in (kept, np.sqrt(kept)))
    centre = values.mean(axis=0)
    return np.asarray((centre + (values - centre) @ shrink)[:, None] + common + own @ root)


def p_on_front(drawn: Array, directions: Sequence[str], feasible: NDArray[np.bool_]) -> Array:
    """Share of the draws in which each point is on the front: (p,) in [0, 1].

    Args:
        drawn: (p, r, m) objectives in each draw.
        directions: "max" or "min" for each objective.
        feasible: (p, r), or (p,) where nothing is known of how sure feasibility is; others neither stand on the front
            nor keep others off it.

    The standard error of a probability from r draws is at most 0.5 / sqrt(r).
    """
    allowed = np.broadcast_to(feasible.reshape(len(drawn), -1), drawn.shape[:2])
    hits = np.zeros(drawn.shape[0])
    for index in range(drawn.shape[1]):
        hits += front.non_dominated(drawn[:, index], directions, allowed[:, index])
    return np.asarray(hits / drawn.shape[1])


def means(
    layouts: Mapping[str, Layout], values: Values, quantity: Quantity, *, resamples: int = RESAMPLES, seed: int
) -> tuple[Array, Array]:
    """The means that a quantity is made of, as measured and in each draw: (p, k), (p, resamples, k).

    k is 1 for a mean over all items, and the number of languages for an aggregate over them.
    """
    x = np.asarray(values[quantity.evaluator], dtype=np.float64)
    layout = layouts[quantity.evaluator]
    codes, counts = _resampled(layout.groups[: x.shape[1]], resamples, seed)
    exact, drawn = [], []
    for rows in _parts(layout, x.shape[1], quantity.aggregate.kind):
        sums, sizes = _by_group(x[:, rows], codes[rows], counts.shape[1])
        total = counts @ sizes  # (resamples,) items drawn
        # A language whose few groups were all left out of a draw keeps its measured mean there.
        own = x[:, rows].mean(axis=1, keepdims=True)
        drawn.append(np.where(total > 0, (sums @ counts.T) / np.maximum(total, 1.0), own))
        exact.append(own[:, 0])
    return np.stack(exact, axis=-1), np.stack(drawn, axis=-1)


def joined(quantity: Quantity, found: Array) -> Array:
    """A quantity of its means: (..., k) -> (...)."""
    if quantity.aggregate.kind == "mean":
        return np.asarray(found[..., 0])
    flat = found.reshape(-1, found.shape[-1])
    return aggregates.reduced(quantity.aggregate, flat, quantity.larger_is_better).reshape(found.shape[:-1])


def _drawn(layouts: Mapping[str, Layout], values: Values, quantity: Quantity, resamples: int, seed: int) -> Array:
    return joined(quantity, means(layouts, values, quantity, resamples=resamples, seed=seed)[1])


def _parts(layout: Layout, count: int, kind: str) -> list[NDArray[np.intp]]:
    """The items of each mean that an aggregate is made of: all of them, or those of each language."""
    if kind == "mean":
        return [np.arange(count)]
    languages = np.asarray(layout.languages[:count])
    return [np.flatnonzero(languages == language) for language in dict.fromkeys(layout.languages[:count])]


def _by_group(x: Array, codes: NDArray[np.intp], count: int) -> tuple[Array, Array]:
    """Sums (p, groups) and sizes (groups,)."""
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    sums = np.zeros((len(x), count))
    sums[:, present] = np.add.reduceat(x[:, order], starts, axis=1)
    return sums, np.bincount(codes, minlength=count).astype(np.float64)


@lru_cache(maxsize=32)
def _resampled(groups: tuple[str, ...], resamples: int, seed: int) -> tuple[NDArray[np.intp], Array]:
    """Code of each item's group, and how often each draw takes each group: (n,), (resamples, groups)."""
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    own = zlib.crc32("\x1f".join(names.tolist()).encode())
    counts = np.random.default_rng((seed, own)).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    return codes, counts.astype(np.float64)
