"""Methods race methods: real Ray Tune trials with ASHA on a pool of real actors; only the model is a known rate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from cluster.local import LocalPool
from cluster.pool import open_pool
from cluster.session import session
from search.racing.method_race import FIRST_RUNG, LAGGING, Standings, race_methods, standings
from search.recipe import Recipe, parse_recipe
from search.run.progress import Display
from search.run.rundir import Run
from search.scoring.objective import Job
from search.searches import search_under_tune, share_workers, unfinished
from search.stopping import Rules
from search.study import SearchPlan, run_search

from .landscape import Landscape, plan, store_in

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")
WORSE = ("ties", "dare_ties")
TOTAL = 72
RECIPE = """\
name: race
base: models/base
languages: [en, hi]
experts: {general: {path: models/general}, safety: {path: models/safety}}
evaluators:
  general: {kind: exact_match, data: eval/general.jsonl}
  safety: {kind: exact_match, data: eval/safety.jsonl}
search:
  methods: [linear, task_arithmetic, ties, dare_ties]
  objectives: {general: max, safety: max}
  candidates: 72
  scheduler: asha
"""


@dataclass(frozen=True)
class Uneven(Landscape):
    """Half of what sparse merges of the landscape get right is lost.

    So that nobody takes the others' candidates before they are compared, whatever the machine is doing, the worse ones
    wait behind the first rung until the better ones were there (and have the two on the way that they may have), and
    these wait for them.
    """

    folder: Path = Path()

    def score(self, job: Job) -> dict[str, Any]:
        method = job.merge.method
        (self.folder / f"{method} {sha256(repr(job.merge.params).encode()).hexdigest()}").touch()
        came = self.started(method)
        if method in WORSE:
            if came >= FIRST_RUNG:
                self.wait(lambda: all(self.started(good) > FIRST_RUNG + 2 for good in METHODS if good not in WORSE))
        elif came > FIRST_RUNG + 4:
            self.wait(lambda: all(self.started(worse) >= FIRST_RUNG for worse in WORSE))
        found = super().score(job)
        if method in WORSE:
            found = {name: row * (row.cumsum() % 2) for name, row in found.items()}
        return found

    def started(self, method: str) -> int:
        return len(list(self.folder.glob(f"{method} *")))

    def wait(self, ready: Callable[[], bool]) -> None:
        limit = time.monotonic() + 120
        while not ready():
            if time.monotonic() > limit:
                raise TimeoutError(f"the other methods did not come as far: {sorted(self.folder.iterdir())}")
            time.sleep(0.01)


def recipe(text: str = RECIPE) -> Recipe:
    return parse_recipe(text, directory="/")


def plans(folder: Path) -> tuple[SearchPlan, ...]:
    rules = Rules(candidates=TOTAL, shared=float(TOTAL))
    return tuple(plan(folder, method, rules=rules, in_flight=1, sampler="random") for method in METHODS)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with session("local", cpus=2):
        yield


@pytest.mark.ray
@pytest.mark.slow
def test_methods_that_lag_leave_their_candidates_to_the_others(ray_session: None, tmp_path: Path) -> None:
    run = Run(tmp_path, recipe(), store_in(tmp_path))
    (tmp_path / "started").mkdir()
    # Six actors: each search has two candidates under way, and those of two searches may wait.
    pool = open_pool(Uneven(folder=tmp_path / "started"), actors=6, cpus=0.1)
    try:
        search_under_tune(run, plans(tmp_path), pool, Display(quiet=True))
    finally:
        pool.close()
    points = run.store.points()
    scored = Counter(point.search for point in points if point.state == "COMPLETE")
    assert {point.state for point in points} == {"COMPLETE"}
    assert sum(scored.values()) == TOTAL
    lagging = {event["search"] for event in run.store.events("stopped") if event["rule"] == LAGGING}
    assert set(WORSE) <= lagging < set(METHODS)
    assert all(scored[method] < TOTAL / len(METHODS) for method in WORSE)
    assert max(scored.values()) > TOTAL / len(METHODS)
    assert unfinished(run.store, plans(tmp_path)) == []


def test_the_better_half_of_each_rung_goes_on_whoever_came_first() -> None:
    curves = {
        "a": (0.5, 0.6, 0.7),
        "b": (0.4, 0.8, 0.9),
        "c": (0.3, 0.5, 1.0),
        "d": (0.2, 1.0, 1.0),
        "e": (0.1, 1.0, 1.0),
    }
    for order in permutations(curves):
        found = Standings(order)
        for rung, volumes in enumerate(zip(*curves.values(), strict=True)):
            heights = dict(zip(curves, volumes, strict=True))
            for name in [name for name in order if name in found.racing]:
                found.keep(name, FIRST_RUNG * 2**rung, heights[name])
                found.lags(name)
            for name in order:  # the next reports, before the next rung
                found.lags(name)
        assert found.lagged == {"d": (4, 0.2), "e": (4, 0.1), "c": (8, 0.5), "a": (16, 0.7)}
        assert list(found.racing) == ["b"]


def test_nobody_is_stopped_while_those_to_come_could_change_it() -> None:
    found = Standings("abc")
    found.keep("a", 4, 1.0)
    found.keep("b", 4, 0.5)
    assert not found.lags("b"), "the third may be worse"
    found.ended("c")
    assert found.lags("b")
    assert not found.lags("a"), "the last one goes on"
    found.keep("a", 8, 0.1)
    assert not found.lags("a")


def test_a_resumed_run_knows_the_rungs_of_the_killed_one(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    wanted = [replace(each, rules=Rules(candidates=9)) for each in plans(tmp_path)[:2]]
    live = Standings(each.name for each in wanted)

    def keep(name: str, said: Mapping[str, float]) -> None:
        live.keep(name, int(said["evaluated"]), said["hypervolume"])

    for each in wanted:
        run_search(each, LocalPool(Landscape(raise_above=0.9)), store, partial(keep, each.name))
    again = standings(store, wanted, [each.name for each in wanted])
    assert {rung: len(reached) for rung, reached in again.at.items()} == {4: 2, 8: 2}
    for rung, reached in live.at.items():
        assert again.at[rung] == pytest.approx(reached)


def test_what_a_search_that_ended_had_under_way_is_the_others(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first, second = share_workers(plans(tmp_path)[:2], 5)

    class Watching(LocalPool):
        waiting, most = 0, 0

        def submit(self, ticket: Any, task: Any) -> None:
            super().submit(ticket, task)
            self.waiting += 1
            self.most = max(self.most, self.waiting)

        def collect(self, timeout_s: float) -> Any:
            self.waiting -= 1
            return super().collect(timeout_s)

    pools = [Watching(Landscape()) for _ in range(2)]
    run_search(replace(first, rules=Rules(candidates=20)), pools[0], store)
    run_search(replace(second, rules=Rules(candidates=20)), pools[1], store)
    assert [pool.most for pool in pools] == [3, 6]
    # With one worker nothing moves, so that kills change nothing.
    assert [(each.in_flight, each.beside) for each in share_workers(plans(tmp_path)[:2], 1)] == [(1, ())] * 2


def test_searches_that_share_a_limit_meet_it_exactly(tmp_path: Path) -> None:
    first, second = plans(tmp_path)[:2]
    store = store_in(tmp_path)
    for _ in range(30):
        store.add_candidate(f"elsewhere {_}", "other", "linear", {})
    stop = run_search(first, LocalPool(Landscape()), store)
    assert stop is not None
    assert (stop.rule, stop.reason) == ("candidates", "72 candidates over all searches")
    assert len(store.points(first.name)) == TOTAL - 30
    assert run_search(second, LocalPool(Landscape()), store) == stop
    assert store.points(second.name) == ()


def test_what_a_stopped_search_had_under_way_is_forgotten(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    done, _ = store.add_candidate("a", "ties", "ties", {})
    store.fail(done.id, 1.0, "no")
    flying, _ = store.add_candidate("b", "ties", "ties", {})
    other, _ = store.add_candidate("c", "linear", "linear", {})
    store.forget("ties")
    assert [point.id for point in store.points()] == [done.id, other.id]
    assert not store.fail(flying.id, 1.0, "too late")
    assert store.add_candidate("d", "linear", "linear", {})[0].id == "4", "an id is never given twice"


def test_few_candidates_are_shared_equally() -> None:
    assert race_methods(recipe())
    assert not race_methods(recipe(RECIPE.replace("72", "31")))
    assert not race_methods(recipe(RECIPE.replace("asha", "fair")))
    assert not race_methods(recipe(RECIPE.replace("[linear, task_arithmetic, ties, dare_ties]", "[linear]")))
