"""Methods race methods: which searches of a run lag, and the Ray Tune scheduler that stops them.

Asynchronous successive halving (ASHA, Li et al. 2020, arXiv:1810.05934) asks once, when a trial comes to a rung,
whether it is in the better part of those that came there before. Among hundreds of trials that is nearly as good as
waiting for all of them; among five methods it keeps whoever came first, and who came first is chance. Here a rung is
asked again at every report, and an answer waits until those that are still to come cannot change it: of the searches
that reached a rung or may yet reach it the better half, rounded up, goes on. Nobody stands still meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search._study.subject import SCORED
from search.statistics import front
from search.study import SearchPlan, observation_of

if TYPE_CHECKING:
    from search.recipe import Recipe
    from search.store import Store

FIRST_RUNG = 4  # candidates of a method before it is compared; then at 8, 16, 32, ..
LAGGING, RUNG = "lagging", "rung"


def race_methods(recipe: Recipe) -> bool:
    """Whether methods that lag are stopped: there are several, and merges enough for two rungs of each."""
    methods = len(recipe.search.methods)
    return recipe.search.scheduler == "asha" and methods > 1 and recipe.search.candidates >= 2 * FIRST_RUNG * methods


class Standings:
    """Hypervolumes of searches at their rungs, and who goes on."""

    def __init__(self, racing: Iterable[str]) -> None:
        """Nobody has come to a rung.

        Args:
            racing: the searches that may still come to rungs.
        """
        self.racing = dict.fromkeys(racing)
        self.lagged: dict[str, tuple[int, float]] = {}
        """Search -> the rung at which it lagged, and its hypervolume there."""
        self.at: dict[int, dict[str, float]] = {}
        """Rung -> search -> hypervolume."""

    def keep(self, name: str, evaluated: int, hypervolume: float) -> tuple[int, ...]:
        """Note how far a search has come; the rungs that are new. A rung has the first value reported from it on."""
        new = tuple(rung for rung in _rungs(evaluated) if name not in self.at.get(rung, {}))
        for rung in new:
            self.at.setdefault(rung, {})[name] = hypervolume
        return new

    def lags(self, name: str) -> bool:
        """Whether a search is to be stopped now; it is counted out then, and the last one never is."""
        if name not in self.racing or len(self.racing) == 1:
            return False
        for rung, reached in sorted(self.at.items()):
            half = -(-len({*reached, *self.racing}) // 2)
            if name in reached and sum(volume > reached[name] for volume in reached.values()) >= half:
                del self.racing[name]
                self.lagged[name] = rung, reached[name]
                return True
        return False

    def ended(self, name: str) -> None:
        """A search ended by itself: it comes to no further rung."""
        self.racing.pop(name, None)


def standings(store: Store, plans: Sequence[SearchPlan], racing: Iterable[str]) -> Standings:
    """The standings as earlier drivers left them, so that a run that was killed decides as one that was not.

    Args:
        store: of the run.
        plans: all its searches.
        racing: names of those that go on now.
    """
    found = Standings(racing)
    for event in store.events(RUNG):  # scores may have grown since
        found.keep(event["search"], event["rung"], event["hypervolume"])
    for plan in plans:
        points = [point for point in store.points(plan.name) if point.state != "RUNNING"]
        scores = store.scores("search", [point.id for point in points])
        told = [observation_of(plan, dict(each)) for _, each in plan.unmerged]
        values = [observation.values for observation in told if observation.feasible]
        directions = tuple(direction for _, direction in plan.objectives)
        for number, point in enumerate(sorted(points, key=lambda point: point.finished or 0.0), 1):
            if point.state in SCORED and (told_now := observation_of(plan, scores[point.id])).feasible:
                values.append(told_now.values)
            if number in _rungs(number):
                found.keep(plan.name, number, front.hypervolume(np.array(values), directions, plan.reference))
    return found


def _rungs(evaluated: int) -> Iterator[int]:
    rung = FIRST_RUNG
    while rung <= evaluated:
        yield rung
        rung *= 2


def scheduler(found: Standings, names: Sequence[str], store: Store) -> Any:
    """A Ray Tune scheduler that stops the trials whose searches lag.

    Args:
        found: kept up to date by what the trials report (`evaluated`, `hypervolume`).
        names: of the searches, in the order of their trials' `index`.
        store: of the run; keeps what stood at each rung.
    """
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Halving(FIFOScheduler):  # type: ignore[misc]  # Ray ships no types
        """Asks the standings at every report."""

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            name = names[trial.config["index"]]
            if "hypervolume" in result:
                volume = float(result["hypervolume"])
                for rung in found.keep(name, int(result["evaluated"]), volume):
                    store.log(RUNG, search=name, rung=rung, hypervolume=volume)
            return str(TrialScheduler.STOP if found.lags(name) else TrialScheduler.CONTINUE)

        def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
            found.ended(names[trial.config["index"]])

        def on_trial_error(self, controller: Any, trial: Any) -> None:
            found.ended(names[trial.config["index"]])

    return Halving()
