"""Racing: a candidate that is clearly beaten on a part of the items is not scored on the rest.

Successive rejection by paired tests, as in Hoeffding and F races (Maron & Moore 1994; Birattari et al. 2002), with
Pareto dominance in place of "worse": after each stage a candidate is dropped when, with at least the stated
probability, some point of the present front dominates it or it breaks a constraint. Both are judged together on draws
of other items (`search.statistics.uncertainty`), the same for candidate, front and base.

Dominance is meant up to a tolerance, a share of each objective's range (additive epsilon-dominance, Laumanns et al.
2002, doi:10.1162/106365602760234108): what beats the front by less than that is not worth its items. On a front that
is nearly found most candidates lie that close to it, and no number of items would tell them from dominated ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from search._recipe.constraints import Constraint
from search.statistics.front import losses, non_dominated
from search.statistics.uncertainty import Array, Layout, Quantity, Values, bounded, draws, margins, measured

from .ordering import stage_ends

RESAMPLES = 512  # a probability of 0.95 is known to 0.01
FEWEST_GROUPS = 8  # fewer say too little about how much groups differ


@dataclass(frozen=True)
class Race:
    """The rules of a search's race.

    Attributes:
        stages: rising shares of the items, the last 1; (1.0,): no race.
        probability: a candidate is dropped when it is dominated or infeasible with at least this probability.
        objectives: the quantities that the front is made of.
        directions: "max" or "min" for each of them.
        reference: of the hypervolume, in the objectives' order: with the front's best values it says what the range
            of an objective is.
        constraints: hard bounds.
        layouts: evaluator -> its items of the search split, in their balanced order.
        tolerance: share of each objective's range within which a point counts as no better than the front.
        seed: of the draws.
    """

    stages: tuple[float, ...]
    probability: float
    objectives: tuple[Quantity, ...]
    directions: tuple[str, ...]
    reference: tuple[float, ...]
    constraints: tuple[Constraint, ...]
    layouts: Mapping[str, Layout]
    tolerance: float = 0.02
    seed: int = 0

    def ends(self, evaluator: str) -> tuple[int, ...]:
        """Items of an evaluator that are scored by the end of each stage."""
        return stage_ends(len(self.layouts[evaluator].groups), self.stages)

    def ranges(self, stage: int) -> tuple[tuple[str, int, int], ...]:
        """(evaluator, first, stop) of the items that a stage adds, in the layouts' order."""
        found = []
        for name in self.layouts:
            ends = (0, *self.ends(name))
            found.append((name, ends[stage], ends[stage + 1]))
        return tuple(found)

    def stage_of(self, counts: Mapping[str, int]) -> int:
        """The stage that comes next for a point with so many items scored; `len(stages)` when it has them all."""
        for stage in range(len(self.stages)):
            if any(counts.get(name, 0) < self.ends(name)[stage] for name in self.layouts):
                return stage
        return len(self.stages)


@dataclass(frozen=True)
class Verdict:
    """What a stage says about a candidate.

    Attributes:
        drop: whether to stop scoring it.
        p_dominated: probability that a point of the front dominates it.
        p_infeasible: probability that it breaks a constraint.
        p_lost: probability of either.
        rival: index of the front point that dominates it most often; None where none ever does.
    """

    drop: bool
    p_dominated: float
    p_infeasible: float
    p_lost: float
    rival: int | None


def judge(race: Race, candidate: Values, front: Values, base: Values | None = None) -> Verdict:
    """Whether a candidate is worth its remaining items.

    A candidate and a rival that agree on all items but a few would look too certain to a bootstrap: it never draws
    what it has not seen. So every mean of the candidate has half an item more for it and half an item against it, each
    with its own uncertainty (Gamma(1/2), as in Jeffreys' prior of a proportion), and stays within [0, 1]: nobody beats
    a rival that solved everything. Against one item lost and none won the candidate is then worse with 75 %, with three
    95 %, with four 98 %.

    Args:
        race: its rules.
        candidate: (1, n) results of the candidate by evaluator, n the items scored so far.
        front: (p, at least n) results of the front's points in full; p may be 0.
        base: (1, at least n) of the base; needed where a constraint is relative to it.

    Returns:
        The verdict. Nothing is dropped while an objective has fewer than `FEWEST_GROUPS` groups of items.
    """
    cut = {name: np.asarray(values).shape[1] for name, values in candidate.items()}
    together = {name: np.concatenate([candidate[name], front[name][:, : cut[name]]]) for name in cut}
    drawn = draws(race.layouts, together, race.objectives, resamples=RESAMPLES, seed=race.seed)
    own = losses_of(_own(race, drawn[0], cut, race.objectives), race.directions)
    others = losses_of(drawn[1:], race.directions)
    beaten = _dominates(others, own, _slack(race, front))  # (p, draws)
    dominated = beaten.any(axis=0)
    broken = np.zeros(RESAMPLES, dtype=bool)
    if race.constraints:
        broken = _broken(race, candidate, base, cut)
    lost = float((dominated | broken).mean())
    groups = min(len(dict.fromkeys(race.layouts[q.evaluator].groups[: cut[q.evaluator]])) for q in race.objectives)
    often = beaten.mean(axis=1)
    return Verdict(
        drop=lost >= race.probability and groups >= FEWEST_GROUPS,
        p_dominated=float(dominated.mean()),
        p_infeasible=float(broken.mean()),
        p_lost=lost,
        rival=int(often.argmax()) if often.any() else None,
    )


def losses_of(drawn: Array, directions: Sequence[str]) -> Array:
    """Draws with every objective to be minimised, same shape."""
    return losses(drawn, directions).reshape(drawn.shape)


def current_front(race: Race, values: Values) -> NDArray[np.intp]:
    """Indices of the points that no other one dominates as measured, among points scored in full and feasible.

    Args:
        race: its rules.
        values: (p, n) by evaluator.
    """
    return np.flatnonzero(non_dominated(measured(race.layouts, values, race.objectives), race.directions))


def _slack(race: Race, front: Values) -> Array:
    """The tolerance in the unit of each objective: a share of what lies between the reference and the front's best."""
    reference = losses(np.array([race.reference]), race.directions)[0]
    if not len(front[race.objectives[0].evaluator]):
        return np.zeros_like(reference)
    best = losses(measured(race.layouts, front, race.objectives), race.directions).min(axis=0)
    return np.asarray(race.tolerance * np.maximum(reference - best, 0.0))


def _dominates(others: Array, own: Array, slack: Array) -> NDArray[np.bool_]:
    """Which of others (p, draws, m) dominate own (draws, m) up to the slack (m,): (p, draws); equals never do."""
    gap = own[None] - others
    return np.asarray((gap + slack >= 0).all(axis=-1) & (gap > 0).any(axis=-1))


def _broken(race: Race, candidate: Values, base: Values | None, cut: Mapping[str, int]) -> NDArray[np.bool_]:
    quantities = bounded(race.constraints)
    used = tuple(dict.fromkeys(quantity.evaluator for quantity in quantities))
    if base is None:
        assert all(constraint.relative is None for constraint in race.constraints), "a bound relative to the base"
        both = {name: np.concatenate([candidate[name], candidate[name]]) for name in used}
    else:
        both = {name: np.concatenate([candidate[name], base[name][:, : cut[name]]]) for name in used}
    drawn = draws(race.layouts, both, quantities, resamples=RESAMPLES, seed=race.seed)
    gaps = margins(race.constraints, _own(race, drawn[0], cut, quantities), drawn[1])
    return np.asarray((gaps > 0).any(axis=-1))


def _own(race: Race, drawn: Array, cut: Mapping[str, int], quantities: Sequence[Quantity]) -> Array:
    """A candidate's draws (draws, q) with the doubt of half an item for it and half an item against it."""
    found = drawn.copy()
    for index, quantity in enumerate(quantities):
        items = cut[quantity.evaluator]
        if quantity.aggregate.kind != "mean":  # the mean of one language
            items = max(1, items // len(dict.fromkeys(race.layouts[quantity.evaluator].languages[:items])))
        found[:, index] += _half_items(str(quantity.aggregate), race.seed) / (items + 1.0)
    return np.clip(found, 0.0, 1.0)


@lru_cache(maxsize=32)
def _half_items(quantity: str, seed: int) -> Array:
    rng = np.random.default_rng((seed, *quantity.encode()))
    return np.asarray(rng.gamma(0.5, size=RESAMPLES) - rng.gamma(0.5, size=RESAMPLES))
