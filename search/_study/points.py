"""The study that `mergefront.search` returns: frozen points, the front, the hypervolume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.statistics import front
from search.stopping import Stop
from search.store import Store

from .least import constant, least_infeasible, missed
from .loop import FAILURES

if TYPE_CHECKING:
    from .asked import Question


class Hypervolume(NamedTuple):
    """A hypervolume, in the product of the objectives' units, with an interval that holds the true one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StudyPoint:
    """One point that was asked.

    Attributes:
        id: its number, from 1, in the order of asking.
        params: what `score` was called with.
        values: what it returned, by name, in its units; {} where it failed.
        stderr: standard errors of `values`, 0 where none was given.
        state: "COMPLETE", "FAILED", or "PRUNED": scored on a part of the items, and not worth the rest.
        violations: constraint -> how far the point is on its wrong side, in the value's unit; <= 0 keeps it.
        reason: why it failed, one line.
        seconds: that its calls took.
        items: how many the values are over; None where the search was told of no items.
    """

    id: int
    params: Mapping[str, Any]
    values: Mapping[str, float]
    stderr: Mapping[str, float]
    state: str
    violations: Mapping[str, float]
    reason: str | None
    seconds: float
    items: int | None = None

    @property
    def feasible(self) -> bool:
        """Whether it was scored, on all items, and keeps all constraints."""
        return self.state == "COMPLETE" and all(distance <= 0 for distance in self.violations.values())


@dataclass(frozen=True)
class Study:
    """What a search of a function found.

    Attributes:
        points: every point that was scored or failed, in the order in which it was asked.
        objectives: name -> "max" or "min".
        constraints: their texts.
        stopped: why the search ended, one line.
        rule: the rule's name: one of the budget's, `failures`, or `exhausted` (no point is left to score).
    """

    points: tuple[StudyPoint, ...]
    objectives: Mapping[str, str]
    constraints: tuple[str, ...]
    stopped: str
    rule: str

    @property
    def front(self) -> tuple[StudyPoint, ...]:
        """The feasible points that no other feasible point dominates, in the order of `points`."""
        points = [point for point in self.points if point.feasible]
        kept = front.non_dominated(self._values(points), self._directions)
        return tuple(point for point, on_front in zip(points, kept, strict=True) if on_front)

    @property
    def least_infeasible(self) -> StudyPoint | None:
        """Where no point is feasible, the scored one that breaks the constraints least (`_study.least`); else None.

        One that was scored on all items comes before those that were scored on a part.
        """
        scored = self._complete or [point for point in self.points if point.state == "PRUNED"]
        if not scored or any(max(point.violations.values(), default=0.0) <= 0 for point in scored):
            return None
        return scored[least_infeasible([point.violations for point in scored])]

    def hypervolume(
        self, reference: Sequence[float] | None = None, *, level: float = 0.9, resamples: int = 200, seed: int = 0
    ) -> Hypervolume:
        """The volume between the front and a reference point (Zitzler & Thiele 1999), and how sure it is.

        `value` is that of the measured values, which flatter the front: noise carries the lucky points onto it. The
        interval is for the hypervolume of the true values of the same points and takes that bias out, so `value` may
        lie above it (`search._study.interval`).

        Args:
            reference: (m,) in the objectives' order and units; points beyond it add nothing. Default: a tenth of the
                range beyond the worst scored point on each objective, which moves as points come.
            level: of the interval.
            resamples: draws of it; 200 take about half a second.
            seed: of the draws.

        Raises:
            ValueError: a reference of another length, or a level that is not between 0 and 1.
        """
        from .interval import hypervolume_interval

        scored = self._complete
        if reference is None and scored:
            reference = front.reference_point(self._values(scored), self._directions).tolist()
        if reference is not None and len(reference) != len(self.objectives):
            raise ValueError(f"reference: {len(reference)} numbers for {len(self.objectives)} objectives")
        points = [point for point in scored if point.feasible]
        if not points or reference is None:
            return Hypervolume(0.0, 0.0, 0.0)
        values = self._values(points)
        stderr = np.array([[point.stderr[name] for name in self.objectives] for point in points])
        low, high = hypervolume_interval(
            values, stderr, self._directions, reference, level=level, resamples=resamples, seed=seed
        )
        return Hypervolume(front.hypervolume(values, self._directions, reference), low, high)

    def warnings(self) -> tuple[str, ...]:
        """What the caller should know before trusting the front; one line each."""
        lines = []
        scored = self._complete
        partly = [point for point in self.points if point.state == "PRUNED"]
        if self.rule == FAILURES:
            lines.append(self.stopped)
        elif partly and not scored:
            lines.append(f"no point was scored on all items, the front is empty; ended by: {self.stopped}")
        elif self.points and not scored:
            lines.append(f"no point was scored; the last one failed: {self.points[-1].reason}")
        if partly and not any(point.stderr[name] for point in partly for name in self.objectives):
            lines.append("scores of a part of the items came without standard errors, and counted as exact")
        for name in constant([point.values for point in scored], self.objectives):
            lines.append(f"{name} is {scored[0].values[name]:.4g} for all {len(scored)} points: it decides nothing")
        least = self.least_infeasible
        if least is not None:
            broken = missed(least.violations)
            lines.append(f"no point keeps all constraints; the least infeasible, #{least.id}, misses {broken}")
        return tuple(lines)

    def __str__(self) -> str:
        """The front as a table, best on the first objective first, and why the search ended."""
        from search.results.table import columns

        first, way = next(iter(self.objectives.items()))
        rows = sorted(self.front, key=lambda point: point.values[first], reverse=way == "max")
        names = list(self.points[0].params) if self.points else []
        header = ["id", *(f"{name} ({way})" for name, way in self.objectives.items()), *names]
        cells = [
            [
                f"#{point.id}",
                *(f"{point.values[n]:.4g} ± {point.stderr[n]:.2g}" for n in self.objectives),
                *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in point.params.values()),
            ]
            for point in rows
        ]
        failed = sum(point.state == "FAILED" for point in self.points)
        part = sum(point.state == "PRUNED" for point in self.points)
        partly = f"{part} scored on a part of the items, " if part else ""
        many = f"{len(rows)} of {len(self.points)} points on the front, {partly}{failed} failed"
        tail = f"{many}; ended by: {self.stopped}"
        return "\n".join([columns([header, *cells]), tail, *self.warnings()])

    @property
    def _complete(self) -> list[StudyPoint]:
        return [point for point in self.points if point.state == "COMPLETE"]

    @property
    def _directions(self) -> tuple[str, ...]:
        return tuple(self.objectives.values())

    def _values(self, points: Sequence[StudyPoint]) -> NDArray[np.float64]:
        values = [[point.values[name] for name in self.objectives] for point in points]
        return np.array(values, dtype=np.float64).reshape(len(points), len(self.objectives))


def study_of(question: Question, store: Store, name: str, stop: Stop) -> Study:
    """The study that a database holds."""
    rows = [row for row in store.points(name) if row.state != "RUNNING"]
    scores = store.scores("search", [row.id for row in rows])
    points = []
    for row in rows:
        found = scores.get(row.id, {})
        points.append(
            StudyPoint(
                id=int(row.id),
                params=question.params(row.params["values"]),
                values={name: score.value for (name, _), score in found.items()},
                stderr={name: score.stderr for (name, _), score in found.items()},
                state=row.state,
                violations=question.violations(found) if found else {},
                reason=row.reason,
                seconds=row.seconds or 0.0,
                items=next((score.n for score in found.values()), None) if question.stages else None,
            )
        )
    constraints = tuple(map(str, question.constraints))
    return Study(tuple(points), dict(question.objectives), constraints, stop.reason, stop.rule)
