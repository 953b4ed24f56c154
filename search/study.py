"""One search: ask -> pool -> tell, without a generation barrier, on an Optuna study rebuilt from `study.db`.

The study lives in memory and is told what the database holds before the first question, so a killed search goes on
where it stopped; what a sampler proposes depends on the study's trials and the seed alone. Corners cost nothing: they
are models scored anyway. A failed candidate is told as failed, never as a bad score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.pool import Outcome, Pool
from evaluators._types import Score
from mergers._spec import Merge

from . import front, items
from ._recipe.constraints import Constraint
from .feasible import margins
from .objective import Grader, Job
from .samplers import Problem, make_sampler
from .samplers._types import STDERR
from .space import Space
from .store import Point, Scores, Store

if TYPE_CHECKING:
    import optuna

MAX_FAILURES_IN_A_ROW = 10
MAX_REPEATS_IN_A_ROW = 50


@dataclass(frozen=True)
class SearchPlan:
    """Everything that one search needs, by value: it travels to a process of its own.

    Attributes:
        name: of the search (its method, today).
        space: what may vary.
        paths: checkpoint of each expert, in merge order.
        hashes: content hash of each expert, in merge order.
        objectives: (name, direction) in order.
        constraints: hard bounds.
        sampler: by name.
        candidates: merges to evaluate, failed ones included.
        seed: of the sampler.
        graders: evaluators with their items.
        items: folder of per-item results.
        reference: of the hypervolume, in the objectives' order.
        unmerged: scores of base and experts on the search split, for corners, constraints and the hypervolume.
        in_flight: candidates under way at the same time.
        candidate_timeout_s: longest wait for any candidate.
    """

    name: str
    space: Space
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    objectives: tuple[tuple[str, str], ...]
    constraints: tuple[Constraint, ...]
    sampler: str
    candidates: int
    seed: int
    graders: tuple[Grader, ...]
    items: Path
    reference: tuple[float, ...]
    unmerged: tuple[tuple[str, tuple[tuple[tuple[str, str], Score], ...]], ...]
    in_flight: int = 1
    candidate_timeout_s: float = 3600.0


class SearchFailed(RuntimeError):
    """A search that cannot go on: its candidates fail one after the other."""


def candidate_key(merge: Merge, hashes: Sequence[str]) -> str:
    """Content hash of a merge: method, parameters, coefficients, seed and the experts' hashes."""
    content = json.dumps([merge.method, merge.params, merge.seed, list(hashes)], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def run_search(
    plan: SearchPlan, pool: Pool, store: Store, report: Callable[[Mapping[str, float]], None] = lambda _: None
) -> None:
    """Run one search to its budget; what the database already holds counts.

    Args:
        plan: the search.
        pool: where candidates are scored.
        store: the run's database.
        report: told `evaluated` (candidates finished) and `hypervolume` (of this search and the unmerged models)
            after every candidate.

    Raises:
        SearchFailed: ten candidates in a row failed.
        TimeoutError: no candidate ended within the plan's limit.
    """
    state = _State(plan, store)
    flying: dict[str, tuple[Any, Point]] = {}
    repeats = 0
    while True:
        while len(flying) < plan.in_flight and state.finished + len(flying) < plan.candidates:
            trial, values = state.ask()
            merge = plan.space.decode(values)
            params = {"values": values, "merge": dict(merge.params), "seed": merge.seed}
            point, _ = store.add_candidate(candidate_key(merge, plan.hashes), plan.name, merge.method, params)
            if point.id in flying or point.state != "RUNNING":
                # The sampler proposed a merge that is known: it is told the result, and no evaluation is spent.
                state.tell_known(trial, point)
                repeats += 1
                if repeats > MAX_REPEATS_IN_A_ROW:
                    break
                continue
            repeats = 0
            flying[point.id] = (trial, point)
            pool.submit(point.id, Job(merge, plan.paths, "search"))
        if not flying:
            return
        for outcome in pool.collect(plan.candidate_timeout_s):
            trial, point = flying.pop(str(outcome.ticket))
            if not state.record(trial, point, outcome):
                return  # a later driver owns this run now
            report(state.progress())


class _State:
    """The Optuna study of one search with what it was told."""

    def __init__(self, plan: SearchPlan, store: Store) -> None:
        import optuna

        self.plan, self.store = plan, store
        self.unmerged = {name: dict(scores) for name, scores in plan.unmerged}
        self.values: list[tuple[float, ...]] = [self._objectives(scores) for scores in self.unmerged.values()]
        self.feasible: list[bool] = [all(m <= 0 for m in self._margins(s).values()) for s in self.unmerged.values()]
        self.finished = self.failures = 0
        known = store.points(plan.name)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = tuple(direction for _, direction in plan.objectives)
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            dimension.name: optuna.distributions.FloatDistribution(dimension.low, dimension.high)
            for dimension in plan.space.dimensions
        }
        names = [dimension.name for dimension in plan.space.dimensions]
        splits = [index for index, name in enumerate(names) if name.startswith("split.")]
        problem = Problem(
            len(names),
            directions,
            sticks=((splits[0], splits[-1] + 1),) if splits else (),
            reference=plan.reference,
        )
        sampler = make_sampler(
            plan.sampler, dimensions=len(names), seed=plan.seed, problem=problem, space=self.distributions
        )
        self.study = optuna.create_study(
            directions=["maximize" if direction == "max" else "minimize" for direction in directions], sampler=sampler
        )
        self._replay(known)

    def _replay(self, known: Sequence[Point]) -> None:
        import optuna

        for name, corner in self.plan.space.corners():
            if name in self.unmerged:
                self._add(corner, self.unmerged[name])
        scores = self.store.scores("search", [point.id for point in known])
        for point in known:
            values = point.params["values"]
            if point.state == "COMPLETE":
                self._add(values, scores[point.id])
                self._count(scores[point.id])
            elif point.state == "FAILED":
                self.study.add_trial(
                    optuna.create_trial(
                        params=values, distributions=self.distributions, state=optuna.trial.TrialState.FAIL
                    )
                )
                self.finished += 1
            else:
                self.study.enqueue_trial(values)  # work that a kill interrupted comes first
        self.study.enqueue_trial(self.plan.space.uniform(), skip_if_exists=True)

    def _objectives(self, scores: Scores) -> tuple[float, ...]:
        return tuple(scores[name, ""].value for name, _ in self.plan.objectives)

    def _stderr(self, scores: Scores) -> list[float]:
        return [scores[name, ""].stderr for name, _ in self.plan.objectives]

    def _margins(self, scores: Scores) -> dict[str, float]:
        return margins(self.plan.constraints, scores, self.unmerged["base"])

    def _add(self, values: Mapping[str, float], scores: Scores) -> None:
        import optuna

        self.study.add_trial(
            optuna.create_trial(
                params=dict(values),
                distributions=self.distributions,
                values=self._objectives(scores),
                constraints=self._margins(scores),
                user_attrs={STDERR: self._stderr(scores)},
            )
        )

    def _count(self, scores: Scores) -> None:
        self.finished += 1
        self.values.append(self._objectives(scores))
        self.feasible.append(all(distance <= 0 for distance in self._margins(scores).values()))

    def ask(self) -> tuple[Any, dict[str, float]]:
        trial = self.study.ask(self.distributions)
        return trial, dict(trial.params)

    def tell_known(self, trial: Any, point: Point) -> None:
        import optuna

        if point.state == "COMPLETE":
            self._tell(trial, self.store.scores("search", [point.id])[point.id])
        else:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _tell(self, trial: Any, scores: Scores) -> None:
        for name, value in self._margins(scores).items():
            trial.set_constraint(name, value)
        trial.set_user_attr(STDERR, self._stderr(scores))
        self.study.tell(trial, list(self._objectives(scores)))

    def record(self, trial: Any, point: Point, outcome: Outcome) -> bool:
        """Keep an outcome in the database, then tell the study; False when the run has a new owner."""
        import optuna

        error, scores = outcome.error, {}
        if error is None:
            try:
                scores = items.scores_of(outcome.value, self.plan.graders, "search")
            except ValueError as problem:
                error = str(problem)
        if error is not None:
            if not self.store.fail(point.id, outcome.seconds, error):
                return False
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self.finished += 1
            self.failures += 1
            if self.failures >= MAX_FAILURES_IN_A_ROW:
                raise SearchFailed(f"{self.failures} candidates of {self.plan.name} failed in a row; the last: {error}")
            return True
        items.write_items(self.plan.items, point.id, "search", outcome.value, self.plan.graders)
        if not self.store.finish(point.id, outcome.seconds, "search", scores):
            return False
        self._tell(trial, scores)
        self._count(scores)
        self.failures = 0
        return True

    def progress(self) -> dict[str, float]:
        import numpy as np

        directions = [direction for _, direction in self.plan.objectives]
        values = np.array(self.values)[np.array(self.feasible, dtype=bool)]
        volume = front.hypervolume(values.reshape(-1, len(directions)), directions, self.plan.reference)
        return {"evaluated": float(self.finished), "hypervolume": volume}
