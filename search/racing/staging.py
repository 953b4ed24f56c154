"""Stages of a search of merges: which items a candidate is scored on next, and whether it is worth them.

What a stage gave lies beside the database before the next one begins, so a candidate that a kill interrupted goes on
with the items that it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.run import items
from search.scoring.objective import Grader, Job, Results

from .race import Race, current_front, judge

COMPLETE, PRUNED = "COMPLETE", "PRUNED"


@dataclass(frozen=True)
class Step:
    """What follows a stage: the results so far, and either the next job or the state in which the candidate ends."""

    results: Results
    job: Job | None
    state: str


class Stages:
    """The race of one search, with the per-item results of its present front."""

    def __init__(self, race: Race, graders: Sequence[Grader], folder: Path) -> None:
        """An empty front.

        Args:
            race: its rules.
            graders: evaluators with their items.
            folder: of per-item results.
        """
        self.race, self.graders, self.folder = race, tuple(graders), folder
        self.front: dict[str, NDArray[Any]] = {
            grader.name: np.zeros((0, len(grader.split("search"))), dtype=np.float32) for grader in graders
        }
        self.base: Mapping[str, NDArray[Any]] | None = None

    def enter(self, point: str, *, base: bool = False, feasible: bool = True) -> None:
        """Let a point that was scored in full join the front, as far as it is on it.

        Args:
            point: whose results lie in the folder.
            base: whether it is the base model, which constraints may be relative to.
            feasible: whether it keeps the constraints as measured; one that does not beats nobody.
        """
        values = {name: row[None] for name, row in items.read_values(self.folder, point, "search").items()}
        if base:
            self.base = values
        if feasible:
            both = {name: np.concatenate([front, values[name]]) for name, front in self.front.items()}
            kept = current_front(self.race, both)
            self.front = {name: rows[kept] for name, rows in both.items()}

    def first(self, point: str, job: Job) -> Job:
        """The job that a candidate begins or goes on with."""
        stage = self.race.stage_of({name: len(row) for name, row in self._known(point).items()})
        # A kill between the last results and the row that states them: the last stage is scored once more.
        return replace(job, ranges=self.race.ranges(min(stage, len(self.race.stages) - 1)))

    def rest(self, point: str, job: Job) -> Job:
        """The job of all items that a candidate lacks: of one that a final chose."""
        counts = {name: len(row) for name, row in self._known(point).items()}
        ranges = []
        for name, first, stop in self.race.ranges(len(self.race.stages) - 1):
            known = counts.get(name, 0)
            # Where the results are all there, and the row was not: the last stage is scored once more.
            ranges.append((name, known if known < stop else first, stop))
        return replace(job, ranges=tuple(ranges))

    def next(self, point: str, job: Job, results: Results) -> Step:
        """Take the results of a stage in; before the last one a candidate ends, until a final chooses it.

        Args:
            point: the candidate.
            job: that gave the results.
            results: of the job's items.

        Raises:
            ValueError: results that are not finite, or not one for each item; one line.
        """
        starts = {name: first for name, first, _ in job.ranges}
        counts = {name: stop for name, _, stop in job.ranges}
        earlier = {name: row[: starts[name]] for name, row in self._known(point).items()}
        so_far = items.joined(earlier, results)
        items.scores_of(so_far, self.graders, "search", counts)
        stage = self.race.stage_of(counts)
        if stage == len(self.race.stages):
            return Step(so_far, None, COMPLETE)
        candidate = {name: np.asarray(row)[None] for name, row in so_far.items()}
        if stage == len(self.race.stages) - 1 or judge(self.race, candidate, self.front, self.base).drop:
            return Step(so_far, None, PRUNED)
        items.write_items(self.folder, point, "search", so_far, self.graders)
        return Step(so_far, replace(job, ranges=self.race.ranges(stage)), "RUNNING")

    def _known(self, point: str) -> Mapping[str, NDArray[Any]]:
        if not items.items_file(self.folder, point, "search").is_file():
            return {}
        return items.read_values(self.folder, point, "search")
