"""The loop of every search: ask, enter, evaluate, record, tell; without a generation barrier.

The rows are the truth and come first: a candidate is entered before it is evaluated and completed before the sampler
hears of it. So a kill between any two steps leaves at most points under way, which the next driver evaluates first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cluster.pool import Outcome, Pool
from search import front
from search.stopping import Rules, Stop, due, stagnated
from search.store import Point, Scores, Store, Totals

from .proposals import Asked, Observation, Proposals, Values

MAX_FAILURES_IN_A_ROW = 10
FAILURES = "failures"
COMPLETE, PRUNED = "COMPLETE", "PRUNED"
SCORED = (COMPLETE, PRUNED)  # in full, or on as many items as it took to drop it
_NOTHING = Totals()
UNAVAILABLE = "Unavailable:"  # how `evaluators.judges.errors.Unavailable` arrives from a worker, which sends lines


class SearchFailed(RuntimeError):
    """A search that cannot go on: its candidates fail one after the other."""


class ScoringUnavailable(RuntimeError):
    """What scoring depends on is out of reach; no candidate is at fault, so those under way are left to a resume."""


@dataclass(frozen=True)
class Candidate:
    """One thing to score: its key, how its row names it, what the pool is given."""

    key: str
    method: str
    params: Mapping[str, Any]
    task: Any
    kind: str = "merge"


@dataclass(frozen=True)
class Advance:
    """What follows one task of a candidate: the outcome of all so far, and another task or the state it ends in.

    `tokens` are those of all its tasks.
    """

    outcome: Outcome
    task: Any = None
    state: str = COMPLETE
    tokens: int = 0


@dataclass(frozen=True)
class Staged:
    """A candidate's scoring in several tasks, as functions.

    Attributes:
        begin: a point's id and its task -> the task that it begins, or goes on, with.
        advance: a point's id, the task that ended and its outcome, which is no error -> what follows; raises ValueError
            with one line where there is no score to trust.
        entered: told the id of every point that was scored in full, is feasible and may be on the front.
    """

    begin: Callable[[str, Any], Any]
    advance: Callable[[str, Any, Outcome], Advance]
    entered: Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """What a search searches, as functions.

    Attributes:
        name: of the search, in its rows.
        directions: of the objectives.
        reference: of the hypervolume; None: a tenth of the range beyond the worst of what was scored.
        candidate: a sampler's values -> what is scored.
        scores: an outcome without error -> scores; raises ValueError with one line where there is none to trust.
        keep: called with the point's id and the outcome before its row is completed (per-item results).
        observation: scores -> what the sampler is told.
        known: points that cost nothing: (values, observation), entered first.
        first: points to score before the sampler is asked.
        stages: how a candidate's scoring is divided; None: one task scores it.
        tokens: an outcome without error -> tokens that a model processed for it.
    """

    name: str
    directions: tuple[str, ...]
    reference: tuple[float, ...] | None
    candidate: Callable[[Values], Candidate]
    scores: Callable[[Outcome], Scores]
    keep: Callable[[str, Outcome], None]
    observation: Callable[[Scores], Observation]
    known: Sequence[tuple[Values, Observation]] = ()
    first: Sequence[Values] = ()
    stages: Staged | None = None
    tokens: Callable[[Outcome], int] = lambda _: 0


class Search:
    """A search as far as it has come: its rows replayed into the sampler, and running figures."""

    def __init__(self, subject: Subject, proposals: Proposals, store: Store, also: Sequence[Observation] = ()) -> None:
        """Replay what the database holds.

        Args:
            subject: what is searched.
            proposals: the sampler, with an empty history.
            store: the database.
            also: scored elsewhere, and part of the front that the hypervolume is of.
        """
        self.subject, self.proposals, self.store = subject, proposals, store
        self.values = [observation.values for observation in also]
        self.feasible = [observation.feasible for observation in also]
        self.finished = self.failures = 0
        self._spent: dict[str, tuple[float, int]] = {}  # by the stages that a candidate has behind it
        self.last_error = ""
        self.keys: set[str] = set()
        self.waiting: deque[Asked] = deque()
        self._front = np.array([v for v, ok in zip(self.values, self.feasible, strict=True) if ok])
        for values, observation in subject.known:
            self.keys.add(subject.candidate(values).key)
            proposals.enter(values, observation)
        self._replay()

    def _replay(self) -> None:
        known = self.store.points(self.subject.name)
        scores = self.store.scores("search", [point.id for point in known])
        for point in sorted(known, key=lambda point: point.params.get("number", -1)):
            values, number = dict(point.params["values"]), point.params.get("number")
            self.keys.add(point.key)
            if point.state == "RUNNING":
                self.waiting.append(self.proposals.resume(values, number))
                continue
            done = point.state in SCORED
            self.proposals.enter(values, self.subject.observation(scores[point.id]) if done else None, number)
            self.finished += 1
        complete = sorted((p for p in known if p.state == COMPLETE), key=lambda point: point.turn or 0)
        told = [self.subject.observation(scores[point.id]) for point in complete]
        for observation in told:
            self._count(observation)
        if self.subject.stages is not None and told:
            allowed = np.array([observation.feasible for observation in told], dtype=bool)
            values_told = np.array([observation.values for observation in told])
            shown = front.non_dominated(values_told, self.subject.directions, allowed)
            for index in np.flatnonzero(shown):
                self.subject.stages.entered(complete[index].id)

    def ask(self) -> Asked | None:
        """The next point: what a kill interrupted, the first points, then the sampler's; None: no other is left."""
        if self.waiting:
            return self.waiting.popleft()
        for values in self.subject.first:
            if self.subject.candidate(values).key not in self.keys:
                return self.proposals.resume(dict(values))
        return self.proposals.propose(lambda values: self.subject.candidate(values).key in self.keys)

    def enter(self, asked: Asked, rules: Rules) -> tuple[Candidate, Point] | None:
        """The candidate of a point, with its row; None where the searches share a limit that they have met."""
        candidate = self.subject.candidate(asked.values)
        params = {**candidate.params, "values": asked.values, "number": asked.number}
        self.keys.add(candidate.key)
        row = candidate.key, self.subject.name, candidate.method, params, candidate.kind
        entered = self.store.add_within(rules.shared, *row)
        return None if entered is None else (candidate, entered[0])

    def tell_known(self, asked: Asked, point: Point) -> None:
        """A point whose row another search has completed."""
        done = point.state in SCORED
        scores = self.store.scores("search", [point.id]) if done else {}
        self.proposals.tell(asked, self.subject.observation(scores[point.id]) if done else None)

    def begin(self, point: Point, task: Any) -> Any:
        """The task that a point begins, or goes on, with."""
        return task if self.subject.stages is None else self.subject.stages.begin(point.id, task)

    def advance(self, point: Point, task: Any, outcome: Outcome) -> Advance:
        """What follows a task of a point that ended."""
        seconds, tokens = self._spent.pop(point.id, (0.0, 0))
        outcome = outcome._replace(seconds=outcome.seconds + seconds)
        tokens += 0 if outcome.error is not None else self.subject.tokens(outcome)
        if self.subject.stages is None or outcome.error is not None:
            return Advance(outcome, tokens=tokens)
        try:
            found = self.subject.stages.advance(point.id, task, outcome)
        except ValueError as problem:
            return Advance(outcome._replace(value=None, error=str(problem)), tokens=tokens)
        if found.task is not None:
            self._spent[point.id] = outcome.seconds, tokens
        return replace(found, tokens=tokens)

    def record(self, asked: Asked, point: Point, ended: Advance) -> bool:
        """Keep how a candidate ended in the database, then tell the sampler; False when the study has a new owner."""
        outcome, state = ended.outcome, ended.state
        error, scores = outcome.error, {}
        if error is None:
            try:
                scores = dict(self.subject.scores(outcome))
            except ValueError as problem:
                error = str(problem)
        if error is not None:
            if not self.store.fail(point.id, outcome.seconds, error, tokens=ended.tokens):
                return False
            self.proposals.tell(asked, None)
            self.finished += 1
            self.failures += 1
            self.last_error = error
            return True
        if state == COMPLETE:
            self.subject.keep(point.id, outcome)
        if not self.store.finish(point.id, outcome.seconds, "search", scores, state=state, tokens=ended.tokens):
            return False
        observation = self.subject.observation(scores)
        self.proposals.tell(asked, observation)
        if state == COMPLETE:
            self._count(observation)
            if self.subject.stages is not None and observation.feasible:
                self.subject.stages.entered(point.id)
        else:
            # After its row: results of a last stage without the row would let a resumed candidate pass that stage.
            self.subject.keep(point.id, outcome)
        self.finished += 1
        self.failures = 0
        return True

    def _count(self, observation: Observation) -> None:
        self.values.append(observation.values)
        self.feasible.append(observation.feasible)
        if observation.feasible:
            both = np.array([*self._front, observation.values])
            self._front = both[front.non_dominated(both, self.subject.directions)]

    def progress(self) -> dict[str, float]:
        """`evaluated` and `hypervolume` (of the search and what was scored elsewhere)."""
        volume = 0.0
        if self.subject.reference is not None:
            volume = front.hypervolume(self._front, self.subject.directions, self.subject.reference)
        return {"evaluated": float(self.finished), "hypervolume": volume}

    def stop(self, rules: Rules, flying: int) -> Stop | None:
        """The rule that ends the search now, if one does; never before what a kill interrupted is done."""
        if self.waiting:
            return None
        if self.failures >= MAX_FAILURES_IN_A_ROW:
            what = f"{self.failures} candidates of {self.subject.name} failed in a row"
            return Stop(FAILURES, f"{what}; the last: {self.last_error}")
        summed = min(rules.items, rules.tokens, rules.cost) < np.inf
        totals = self.store.totals() if summed else _NOTHING
        found = due(rules, self.finished + flying, totals, self.store.wall() if rules.wall_time < np.inf else 0.0)
        if found is not None or rules.stagnation is None or not self.values:
            return found
        values, directions = np.array(self.values), self.subject.directions
        reference = self.subject.reference
        if reference is None:
            reference = tuple(front.reference_point(values, directions).tolist())
        return stagnated(rules.stagnation, values, directions, np.array(self.feasible, dtype=bool), reference)


def drive(
    search: Search,
    pool: Pool,
    rules: Rules,
    *,
    in_flight: Callable[[], int],
    timeout_s: float,
    report: Callable[[Mapping[str, float]], None] = lambda _: None,
    ended: Callable[[Point, Advance], None] = lambda _point, _ended: None,
) -> Stop | None:
    """Run a search until a rule ends it; the rule, recorded as an event; None when a later driver took the study over.

    Args:
        search: as far as it has come.
        pool: where candidates are scored.
        rules: when to stop.
        in_flight: how many candidates may be under way at the same time, now.
        timeout_s: longest wait for any of them.
        report: told `Search.progress` after every candidate.
        ended: told how each candidate ended, once that is recorded.

    Raises:
        SearchFailed: ten candidates in a row failed.
        ScoringUnavailable: a judge is out of reach, or its limit of money is met.
        TimeoutError: no candidate ended within `timeout_s`.
        DatabaseLost: the database did not come back.
    """
    flying: dict[str, tuple[Asked, Point, Any]] = {}
    stop: Stop | None = None
    while True:
        while stop is None and len(flying) < in_flight():
            stop = search.stop(rules, len(flying))
            if stop is not None:
                break
            asked = search.ask()
            if asked is None:
                stop = Stop("exhausted", f"no point is left that was not scored ({search.finished + len(flying)} were)")
                break
            entered = search.enter(asked, rules)
            if entered is None:
                stop = Stop("candidates", f"{rules.shared:g} candidates over all searches")
                break
            candidate, point = entered
            if point.state != "RUNNING" or point.id in flying:
                search.tell_known(asked, point)
                continue
            task = search.begin(point, candidate.task)
            flying[point.id] = (asked, point, task)
            pool.submit(point.id, task)
        if not flying:
            assert stop is not None
            _record(search, stop, rules)
            if stop.rule == FAILURES:
                raise SearchFailed(stop.reason)
            return stop
        for outcome in pool.collect(timeout_s):
            asked, point, task = flying.pop(str(outcome.ticket))
            if (outcome.error or "").startswith(UNAVAILABLE):
                raise ScoringUnavailable(outcome.error)
            step = search.advance(point, task, outcome)
            if step.task is not None:
                flying[point.id] = (asked, point, step.task)
                pool.submit(point.id, step.task)
                continue
            if not search.record(asked, point, step):
                return None
            ended(point, step)
            report(search.progress())


def _record(search: Search, stop: Stop, rules: Rules) -> None:
    event = {"search": search.subject.name, "rule": stop.rule, "reason": stop.reason, "rules": repr(rules)}
    ended = [e for e in search.store.events("stopped") if e["search"] == search.subject.name]
    if not ended or {key: ended[-1].get(key) for key in event} != event:
        search.store.log("stopped", **event)
