"""The loop of every search: ask, enter, evaluate, record, tell; without a generation barrier.

The rows are the truth and come first: a candidate is entered before it is evaluated and completed before the sampler
hears of it. So a kill between any two steps leaves at most points under way, which the next driver evaluates first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cluster.pool import Outcome, Pool
from search.racing.finals import ROUNDS
from search.statistics import front
from search.stopping import Rules, Stop, due, stagnated
from search.store import Point, Store, Totals

from .proposals import Asked, Observation, Proposals
from .subject import COMPLETE, SCORED, Advance, Candidate, Scored, Subject

MAX_FAILURES_IN_A_ROW = 10
FAILURES = "failures"
_NOTHING = Totals()
FINAL = "final"
FIRST_FINAL = 8  # candidates of a search; later finals after twice as many
SPENT = ("wall_time", "items", "tokens", "cost", FAILURES)  # rules that leave nothing for finals
UNAVAILABLE = "Unavailable:"  # how `evaluators.judges.errors.Unavailable` arrives from a worker, which sends lines


class SearchFailed(RuntimeError):
    """A search that cannot go on: its candidates fail one after the other."""


class ScoringUnavailable(RuntimeError):
    """What scoring depends on is out of reach; no candidate is at fault, so those under way are left to a resume."""


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
        self._also = [(observation.values, observation.feasible) for observation in also]
        self._known = [Scored("", dict(values), observation, True) for values, observation in subject.known]
        self._scored: dict[str, Scored] = {}  # in the order in which they were scored first
        self.finished = self.failures = 0
        self._spent: dict[str, tuple[float, int]] = {}  # by the stages that a candidate has behind it
        self.last_error = ""
        self.keys: set[str] = set()
        self.waiting: deque[Asked] = deque()
        self._finalists: deque[tuple[Asked, Point]] = deque()
        self._front = np.array([values for values, allowed in self._also if allowed])
        for values, observation in subject.known:
            self.keys.add(subject.candidate(values).key)
            proposals.enter(values, observation)
        self._replay()

    def _replay(self) -> None:
        known = self.store.points(self.subject.name)
        scores = self.store.scores("search", [point.id for point in known])
        told: list[tuple[int, Scored]] = []
        for point in sorted(known, key=lambda point: point.params.get("number", -1)):
            values, number = dict(point.params["values"]), point.params.get("number")
            self.keys.add(point.key)
            # A row that is under way and has scores has been in a final: what it had before is still true.
            final = point.state == "RUNNING" and point.id in scores
            if point.state == "RUNNING" and not final:
                self.waiting.append(self.proposals.resume(values, number))
                continue
            observation = self.subject.observation(scores[point.id]) if point.state in SCORED or final else None
            number = self.proposals.enter(values, observation, number)
            self.finished += 1
            if observation is not None:
                told.append((point.turn or 0, Scored(point.id, values, observation, point.state == COMPLETE)))
            if final:
                self._finalists.append((Asked(number, values), point))
        for _, scored in sorted(told, key=lambda pair: pair[0]):
            self._scored[scored.point] = scored
        self._measure()
        held = [event for event in self.store.events(FINAL) if event["search"] == self.subject.name]
        self._next_final = FIRST_FINAL
        while held and self._next_final <= max(event["after"] for event in held):
            self._next_final *= 2
        self._rounds = [event["after"] for event in held if event["round"]]
        if self.subject.stages is not None:
            complete = [scored for scored in self._scored.values() if scored.full]
            allowed = np.array([scored.observation.feasible for scored in complete], dtype=bool)
            values_told = np.array([scored.observation.values for scored in complete])
            shown = front.non_dominated(values_told, self.subject.directions, allowed) if complete else ()
            for index in np.flatnonzero(shown):
                self.subject.stages.entered(complete[index].point)

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
        before = self._scored.get(point.id)  # of a finalist
        if error is None:
            try:
                scores = dict(self.subject.scores(outcome))
            except ValueError as problem:
                error = str(problem)
        if error is not None:
            if not self.store.fail(point.id, outcome.seconds, error, tokens=ended.tokens):
                return False
            if before is not None:
                del self._scored[point.id]
                self._measure()
            self._tell(asked, None, again=before is not None)
            self.failures += 1
            self.last_error = error
            return True
        if state == COMPLETE:
            self.subject.keep(point.id, outcome)
        if not self.store.finish(point.id, outcome.seconds, "search", scores, state=state, tokens=ended.tokens):
            return False
        observation = self.subject.observation(scores)
        self._tell(asked, observation, again=before is not None)
        if state != COMPLETE:
            # After its row: results of a last stage without the row would let a resumed candidate pass that stage.
            self.subject.keep(point.id, outcome)
        self._keep(point, asked, observation, state == COMPLETE)
        self.failures = 0
        return True

    def _tell(self, asked: Asked, observation: Observation | None, *, again: bool) -> None:
        if again:
            self.proposals.revise(asked, observation)
            return
        self.proposals.tell(asked, observation)
        self.finished += 1

    def _keep(self, point: Point, asked: Asked, observation: Observation, full: bool) -> None:
        again = point.id in self._scored
        self._scored[point.id] = Scored(point.id, asked.values, observation, full)
        if full and self.subject.stages is not None and observation.feasible:
            self.subject.stages.entered(point.id)
        if again:
            self._measure()
        elif observation.feasible:
            self._reach(np.array([*self._front, observation.values]))

    def _measure(self) -> None:
        """The front as measured, anew; points that were scored in part are held against it too, as they stand."""
        self._reach(np.array([values for values, allowed in self._told() if allowed]))

    def _told(self) -> list[tuple[tuple[float, ...], bool]]:
        """Values of every scored point, and whether it keeps the constraints, in the order of the first scores."""
        told = [scored.observation for scored in self._scored.values()]
        return [*self._also, *((observation.values, observation.feasible) for observation in told)]

    def _reach(self, values: np.ndarray[Any, Any]) -> None:
        self._front = values[front.non_dominated(values, self.subject.directions)] if len(values) else values

    def final(self, *, last: bool) -> bool:
        """Let candidates that were scored in part go on to all items; False where none is worth it, or none is due.

        Before the end finals come after 8, 16, 32, .. candidates: the sampler then learns more of where the front is,
        and whoever looks at the run sees one.
        """
        stages = self.subject.stages
        # Rounds are counted for what was scored when they began: a search that is given more candidates has new ones.
        turn = self._rounds.count(self.finished) + 1 if last else 0
        if stages is None or self._finalists or turn > ROUNDS or (not last and self.finished < self._next_final):
            return False
        chosen = stages.promote([*self._known, *self._scored.values()], turn)
        if last and not chosen:
            return False
        detail = {"search": self.subject.name, "after": self.finished, "round": turn}
        reopened = {point.id: point for point in self.store.reopen(chosen, FINAL, **detail)}
        if last:
            self._rounds.append(self.finished)
        while self._next_final <= self.finished:
            self._next_final *= 2
        for name in chosen:
            number = int(reopened[name].params["number"])
            self._finalists.append((Asked(number, self._scored[name].values), reopened[name]))
        return bool(chosen)

    def finalist(self) -> tuple[Asked, Point, Any] | None:
        """The next candidate of a final, with the task of all that it lacks; None: there is none."""
        if not self._finalists:
            return None
        asked, point = self._finalists.popleft()
        assert self.subject.stages is not None
        self._spent[point.id] = point.seconds or 0.0, point.tokens or 0
        return asked, point, self.subject.stages.rest(point.id, self.subject.candidate(asked.values).task)

    def progress(self) -> dict[str, float]:
        """`evaluated` and `hypervolume` (of the search and what was scored elsewhere)."""
        volume = 0.0
        if self.subject.reference is not None:
            volume = front.hypervolume(self._front, self.subject.directions, self.subject.reference)
        return {"evaluated": float(self.finished), "hypervolume": volume}

    def stop(self, rules: Rules, flying: int) -> Stop | None:
        """The rule that ends the search now, if one does; never before what a kill interrupted is done.

        `flying` candidates are under way for the first time.
        """
        if self.waiting:
            return None
        if self.failures >= MAX_FAILURES_IN_A_ROW:
            what = f"{self.failures} candidates of {self.subject.name} failed in a row"
            return Stop(FAILURES, f"{what}; the last: {self.last_error}")
        summed = min(rules.items, rules.tokens, rules.cost) < np.inf
        totals = self.store.totals() if summed else _NOTHING
        found = due(rules, self.finished + flying, totals, self.store.wall() if rules.wall_time < np.inf else 0.0)
        if found is not None or rules.stagnation is None or not (every := self._told()):
            return found
        values, directions = np.array([values for values, _ in every]), self.subject.directions
        reference = self.subject.reference
        if reference is None:
            reference = tuple(front.reference_point(values, directions).tolist())
        feasible = np.array([allowed for _, allowed in every], dtype=bool)
        return stagnated(rules.stagnation, values, directions, feasible, reference)


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
        while len(flying) < in_flight():
            search.final(last=False)
            if (finalist := search.finalist()) is not None:
                flying[finalist[1].id] = finalist
                pool.submit(finalist[1].id, finalist[2])
                continue
            # Finalists have a turn: they were counted when it was given.
            stop = stop or search.stop(rules, sum(point.turn is None for _, point, _ in flying.values()))
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
            if stop.rule not in SPENT and search.final(last=True):
                continue
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
