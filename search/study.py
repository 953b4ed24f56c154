"""One search of merges: what a candidate is, what its outcome is worth; the loop itself is `_study.loop`.

The sampler is told what the database holds before the first question, so a killed search goes on where it stopped.
Corners cost nothing: they are models scored anyway. A failed candidate is told as failed, never as a bad score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster.pool import Outcome, Pool
from evaluators._types import Score
from mergers._spec import Merge

from ._recipe.constraints import Constraint
from ._space.stored import to_json
from ._study.finalists import promoter
from ._study.loop import Search, SearchFailed, drive
from ._study.proposals import Observation, Values, proposals
from ._study.subject import Advance, Candidate, Staged, Subject
from .racing.race import Race
from .racing.staging import Stages
from .run import items, journal
from .samplers import Problem
from .scoring.objective import Answer, Grader, Job
from .space import Space
from .statistics import aggregates
from .statistics.feasible import margins
from .statistics.uncertainty import layouts_of, objectives_of
from .stopping import Rules, Stop
from .store import Point, Scores, Store

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["SearchFailed", "SearchPlan", "candidate_key", "run_search"]


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
        rules: when the search ends.
        seed: of the sampler.
        graders: evaluators with their items.
        items: folder of per-item results.
        reference: of the hypervolume, in the objectives' order.
        unmerged: scores of base and experts on the search split, for corners, constraints and the hypervolume.
        in_flight: candidates under way at the same time, over this search and those of `beside` that have not ended.
        beside: names of the searches that run at the same time.
        since: when they began, Unix seconds.
        candidate_timeout_s: longest wait for any candidate.
        stages: rising shares of the items, the last 1; after each a candidate may be dropped (`search.racing.race`).
        drop_above: probability of being dominated or infeasible from which it is.
    """

    name: str
    space: Space
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    objectives: tuple[tuple[str, str], ...]
    constraints: tuple[Constraint, ...]
    sampler: str
    rules: Rules
    seed: int
    graders: tuple[Grader, ...]
    items: Path
    reference: tuple[float, ...]
    unmerged: tuple[tuple[str, tuple[tuple[tuple[str, str], Score], ...]], ...]
    in_flight: int = 1
    beside: tuple[str, ...] = ()
    since: float = 0.0
    candidate_timeout_s: float = 3600.0
    stages: tuple[float, ...] = (1.0,)
    drop_above: float = 0.9


def candidate_key(merge: Merge, hashes: Sequence[str]) -> str:
    """Content hash of a merge: method, parameters, coefficients, seed and the experts' hashes."""
    params = list(to_json(merge).items())
    content = json.dumps([merge.method, params, merge.seed, list(hashes)], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def run_search(
    plan: SearchPlan, pool: Pool, store: Store, report: Callable[[Mapping[str, float]], None] = lambda _: None
) -> Stop | None:
    """Run one search until a stopping rule ends it; what the database already holds counts.

    Args:
        plan: the search.
        pool: where candidates are scored.
        store: the run's database.
        report: told `evaluated` (candidates finished) and `hypervolume` (of this search and the unmerged models)
            after every candidate.

    Returns:
        The rule that ended it (an event of the database, too); None when a later driver owns this run now.

    Raises:
        SearchFailed: ten candidates in a row failed.
        TimeoutError: no candidate ended within the plan's limit.
        DatabaseLost: the database did not come back.
    """
    import optuna

    space = {
        dimension.name: optuna.distributions.FloatDistribution(dimension.low, dimension.high)
        for dimension in plan.space.dimensions
    }
    problem = Problem(
        len(space),
        tuple(direction for _, direction in plan.objectives),
        sticks=plan.space.sticks,
        reference=plan.reference,
        orders=_orders(plan),
    )
    unmerged = [observation_of(plan, dict(scores)) for _, scores in plan.unmerged]
    search = Search(
        _subject(plan, problem, space), proposals(plan.sampler, problem, space, plan.seed), store, also=unmerged
    )
    store.put(
        f"space.{plan.name}", {dimension.name: [dimension.low, dimension.high] for dimension in plan.space.dimensions}
    )
    store.start_clock()
    share = _share(plan, pool, store)
    return drive(
        search,
        pool,
        plan.rules,
        in_flight=share,
        timeout_s=plan.candidate_timeout_s,
        report=report,
        ended=_journal(plan),
    )


def observation_of(plan: SearchPlan, scores: Scores) -> Observation:
    """Scores of a point as the sampler is told of them."""
    base = next(dict(scores) for name, scores in plan.unmerged if name == "base")
    chosen = aggregates.objective_scores(dict(plan.objectives), scores).values()
    by_language = [one for text, _ in plan.objectives for one in aggregates.parts(aggregates.parse(text), scores)]
    return Observation(
        tuple(score.value for score in chosen),
        tuple(score.stderr for score in chosen),
        margins(plan.constraints, scores, base),
        tuple((score.value, score.stderr) for score in by_language),
    )


def _orders(plan: SearchPlan) -> tuple[tuple[float, ...], ...]:
    """How each objective is made of its languages' scores, for the sampler; the base has them all."""
    base = next(dict(scores) for name, scores in plan.unmerged if name == "base")
    found = []
    for text, way in plan.objectives:
        aggregate = aggregates.parse(text)
        count = len(aggregates.parts(aggregate, base))
        found.append(aggregates.order(aggregate, count, way == "max") if count else ())
    return tuple(found)


def _journal(plan: SearchPlan) -> Callable[[Point, Advance], None]:
    """A line of the run's log for each candidate."""

    def ended(point: Point, found: Advance) -> None:
        outcome = found.outcome
        journal.write(
            plan.items.parent,
            "candidate",
            search=plan.name,
            candidate=point.id,
            key=point.key,
            state=found.state if outcome.error is None else "FAILED",
            seconds=round(outcome.seconds, 3),
            tokens=found.tokens or None,
            error=outcome.error,
            trace=outcome.trace or None,
        )

    return ended


def _share(plan: SearchPlan, pool: Pool, store: Store) -> Callable[[], int]:
    """How many candidates the search may have under way now, rounded up; the part of one that ended is the others'."""

    def share() -> int:
        in_flight = plan.in_flight
        if pool.grows:
            in_flight = max(in_flight, pool.size + 1)
        if not plan.beside:
            return in_flight
        events = [*store.events("stopped"), *store.events("gave up")]
        ended = {event["search"] for event in events if event["at"] >= plan.since}
        return -(-in_flight // (1 + sum(name not in ended for name in plan.beside)))

    return share


def _subject(plan: SearchPlan, problem: Problem, space: Mapping[str, BaseDistribution]) -> Subject:
    """The search of merges as the loop sees it."""
    unmerged = {name: dict(scores) for name, scores in plan.unmerged}

    def candidate(values: Values) -> Candidate:
        merge = plan.space.decode(values)
        params = {"merge": to_json(merge), "seed": merge.seed}
        return Candidate(candidate_key(merge, plan.hashes), merge.method, params, Job(merge, plan.paths, "search"))

    def scores(outcome: Outcome) -> Scores:
        # With stages the results were held against their items when they came, and may be of the first ones only.
        results = outcome.value.results
        counts = None if plan.stages == (1.0,) else {name: len(row) for name, row in results.items()}
        return items.scores_of(results, plan.graders, "search", counts)

    def keep(point: str, outcome: Outcome) -> None:
        items.write_items(plan.items, point, "search", outcome.value.results, plan.graders)

    return Subject(
        name=plan.name,
        directions=tuple(direction for _, direction in plan.objectives),
        reference=plan.reference,
        candidate=candidate,
        scores=scores,
        keep=keep,
        observation=lambda scores: observation_of(plan, scores),
        known=[
            (corner, observation_of(plan, unmerged[name])) for name, corner in plan.space.corners() if name in unmerged
        ],
        first=[plan.space.uniform()],
        stages=None if plan.stages == (1.0,) else _stages(plan, problem, space),
        tokens=lambda outcome: outcome.value.tokens,
    )


def _stages(plan: SearchPlan, problem: Problem, space: Mapping[str, BaseDistribution]) -> Staged:
    """The race of a search as the loop sees it; the unmerged models are its first front."""
    race = Race(
        plan.stages,
        plan.drop_above,
        objectives_of(dict(plan.objectives)),
        tuple(direction for _, direction in plan.objectives),
        plan.reference,
        plan.constraints,
        layouts_of(plan.graders, "search"),
        seed=plan.seed,
    )
    stages = Stages(race, plan.graders, plan.items)
    for name, scores in plan.unmerged:
        stages.enter(name, base=name == "base", feasible=observation_of(plan, dict(scores)).feasible)

    def advance(point: str, job: Job, outcome: Outcome) -> Advance:
        step = stages.next(point, job, outcome.value.results)
        return Advance(outcome._replace(value=Answer(step.results)), step.job, step.state)

    told = [observation_of(plan, dict(scores)) for _, scores in plan.unmerged]
    rivals = np.array([one.values for one in told if one.feasible]).reshape(-1, len(plan.objectives))

    return Staged(stages.first, stages.rest, advance, stages.enter, promoter(problem, space, rivals, plan.seed))
