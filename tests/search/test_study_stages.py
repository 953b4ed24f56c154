"""A search in stages: what is dropped, what is scored, and what a kill between stages leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.local import LocalPool
from mergers._spec import weights
from search.run.items import items_file, read_values, write_items
from search.samplers._types import STDERR
from search.scoring.objective import AS_IT_IS, Job
from search.stopping import Rules
from search.store import Store
from search.study import SearchPlan, run_search

from .landscape import ITEMS, Landscape, graders, plan, safety_share, store_in

METHOD = "task_arithmetic"  # weights in a box: their sum is free
STAGES = (0.4, 0.7, 1.0)
SPREAD = (np.arange(ITEMS) * 0.618) % 1.0  # every prefix has about the rate


@dataclass(frozen=True)
class Bumpy(Landscape):
    """Weights that do not sum to one cost on both objectives, so that most merges are clearly dominated."""

    def score(self, job: Job) -> dict[str, Any]:
        share = safety_share(job)
        cost = 0.0 if job.merge == AS_IT_IS else abs(1.0 - sum(weights(job.merge, 2)))
        rates = {"general": 0.9 - 0.5 * share**2 - cost, "safety": 0.1 + 0.8 * share - cost}
        ranges = {name: slice(first, stop) for name, first, stop in job.ranges}
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{job.merge.params} {job.ranges}\n")
        return {name: (rate > SPREAD).astype(np.float32)[ranges.get(name, slice(None))] for name, rate in rates.items()}


def staged(folder: Path, **changes: Any) -> SearchPlan:
    settings: dict[str, Any] = {"stages": STAGES, "in_flight": 1, "sampler": "random", "rules": Rules(candidates=20)}
    wanted = plan(folder, METHOD, **(settings | changes))
    for name, _ in wanted.unmerged:
        write_items(wanted.items, name, "search", Bumpy().score(Job(AS_IT_IS, (name,), "search")), graders())
    return wanted


def outcome(store: Store) -> list[tuple[Any, ...]]:
    scores = store.scores("search")
    return [(p.key, p.state, scores[p.id]["general", ""].n) for p in store.points(METHOD)]


def test_dominated_candidates_are_dropped_and_nobody_is_scored_twice_on_an_item(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wanted, store = staged(tmp_path), store_in(tmp_path)
    run_search(wanted, LocalPool(Bumpy(log=str(log))), store)
    found = outcome(store)
    dropped = [row for row in found if row[1] == "PRUNED"]
    assert len(found) == 20
    assert len(dropped) >= 5
    assert all(n in (24, 42) for _, _, n in dropped)
    assert all(n == ITEMS for _, state, n in found if state == "COMPLETE")
    assert store.totals().items == 2 * sum(n for _, _, n in found)
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines))
    scores = store.scores("search")
    for point in store.points(METHOD):
        values = read_values(wanted.items, point.id, "search")
        assert {len(row) for row in values.values()} == {scores[point.id]["general", ""].n}
        assert point.turn is not None


def test_what_is_dropped_costs_the_front_nothing(tmp_path: Path) -> None:
    fronts = []
    for name, stages in (("full", (1.0,)), ("staged", STAGES)):
        folder = tmp_path / name
        folder.mkdir()
        store = store_in(folder)
        reports: list[Mapping[str, float]] = []
        run_search(staged(folder, stages=stages), LocalPool(Bumpy()), store, reports.append)
        fronts.append(reports[-1]["hypervolume"])
    assert fronts[1] == pytest.approx(fronts[0], rel=0.01)


@pytest.mark.parametrize(
    ("share", "sampler"),
    [
        (0.0, "random"),
        (0.4, "random"),
        (0.7, "random"),
        (0.9, "random"),
        (0.98, "random"),
        (0.7, "nsga2"),
        (0.9, "auto"),
    ],
)
def test_a_kill_between_stages_or_in_a_final_changes_nothing(tmp_path: Path, share: float, sampler: str) -> None:
    class Killed(BaseException):
        pass

    log, tasks, left = tmp_path / "log", tmp_path / "tasks", 0

    class Mortal(LocalPool):
        def collect(self, timeout_s: float) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return super().collect(timeout_s)

    whole = tmp_path / "whole"
    whole.mkdir()
    expected = store_in(whole)
    run_search(staged(whole, sampler=sampler), LocalPool(Bumpy(log=str(tasks))), expected)
    assert {8, 16, 20} >= {event["after"] for event in expected.events("final")} >= {8, 16}
    left = round(share * len(tasks.read_text().splitlines()))
    first = store_in(tmp_path, "first")
    with pytest.raises(Killed):
        run_search(staged(tmp_path, sampler=sampler), Mortal(Bumpy(log=str(log))), first)
    second = store_in(tmp_path, "second")
    second.take_over()
    run_search(staged(tmp_path, sampler=sampler), LocalPool(Bumpy(log=str(log))), second)
    assert outcome(second) == outcome(expected)
    assert [p.turn for p in second.points(METHOD)] == [p.turn for p in expected.points(METHOD)]
    assert second.totals().items == expected.totals().items
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)), "a stage that was scored was scored again"


def test_results_without_a_row_are_not_counted_twice(tmp_path: Path) -> None:
    # As a kill between the per-item results and the row leaves it.
    wanted, store = staged(tmp_path, rules=Rules(candidates=1)), store_in(tmp_path)
    run_search(wanted, LocalPool(Bumpy()), store)
    point = store.points(METHOD)[0]
    again = tmp_path / "again"
    again.mkdir()
    other, fresh = staged(again, rules=Rules(candidates=1)), store_in(again)
    items_file(other.items, point.id, "search").write_bytes(items_file(wanted.items, point.id, "search").read_bytes())
    run_search(other, LocalPool(Bumpy()), fresh)
    assert outcome(fresh) == outcome(store)


def test_the_sampler_is_told_of_dropped_candidates_with_their_larger_error(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    run_search(staged(tmp_path), LocalPool(Bumpy()), store)
    scores = store.scores("search")
    errors: dict[str, list[float]] = {"COMPLETE": [], "PRUNED": []}
    for point in store.points(METHOD):
        score = scores[point.id]["general", ""]
        if 0.2 < score.value < 0.8:
            errors[point.state].append(score.stderr)
    assert STDERR == "stderr"
    assert np.median(errors["PRUNED"]) > np.median(errors["COMPLETE"])
