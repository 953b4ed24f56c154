"""A search killed at any step, in this process and for real, ends like one that never was."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cluster.local import LocalPool
from cluster.pool import Outcome
from search.stopping import Rules
from search.store import Store
from search.study import run_search

from .landscape import Landscape, plan

KILLS = 100
CANDIDATES = 10
SCRIPT = Path(__file__).with_name("killed_study.py")


class Killed(BaseException):
    """The end of a driver: nothing may catch it."""


class Fuse:
    """Counts steps and ends the driver at one of them."""

    def __init__(self, at: int) -> None:
        self.left = at

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class MortalStore(Store):
    """A store whose driver may end before, within and after every transaction."""

    def __init__(self, place: Path | str, owner: str, fuse: Fuse) -> None:
        super().__init__(place, owner)
        self.fuse = fuse
        sa.event.listen(self.engine, "before_cursor_execute", lambda *_: fuse.step())
        sa.event.listen(self.engine, "commit", lambda *_: fuse.step())

    def _write(self, change: Callable[[sa.Connection], Any]) -> Any:
        self.fuse.step()
        done = super()._write(change)
        self.fuse.step()  # written, and nobody was told
        return done


class MortalPool(LocalPool):
    """A pool whose driver may end around every task."""

    def __init__(self, factory: Any, fuse: Fuse) -> None:
        super().__init__(factory)
        self.fuse = fuse

    def submit(self, ticket: Any, task: Any) -> None:
        self.fuse.step()
        super().submit(ticket, task)

    def collect(self, timeout_s: float) -> tuple[Outcome, ...]:
        self.fuse.step()
        found = super().collect(timeout_s)
        self.fuse.step()  # scored, and not recorded
        return found


def driven(folder: Path, fuse: Fuse, place: str | None = None, **changes: Any) -> None:
    """One driver, from opening the database to its end."""
    settings: dict[str, Any] = {"in_flight": 1, "rules": Rules(candidates=CANDIDATES), "sampler": "random"}
    store = MortalStore(place or folder / "study.db", f"driver-{random.random()}", fuse)
    try:
        store.create()
        store.take_over()
        landscape = Landscape(log=str(folder / "scored.log"), raise_above=0.8)
        run_search(plan(folder, **(settings | changes)), MortalPool(landscape, fuse), store)
    finally:
        store.close()


def sequence(folder: Path, place: str | None = None) -> list[tuple[Any, ...]]:
    """Everything that must not depend on kills."""
    store = Store(place or folder / "study.db")
    made = place is not None or sa.inspect(store.engine).has_table("events")  # the last one
    points, scores = (store.points("linear"), store.scores("search")) if made else ((), {})
    store.close()
    return [(p.id, p.key, p.state, p.turn, p.reason, p.params, scores.get(p.id)) for p in points]


def never_killed(folder: Path, **changes: Any) -> tuple[list[tuple[Any, ...]], int]:
    folder.mkdir()
    fuse = Fuse(0)
    driven(folder, fuse, **changes)
    return sequence(folder), -fuse.left


def killed_until_done(folder: Path, rng: random.Random, steps: int, **changes: Any) -> int:
    """Kill one driver after the other at a random step until one comes to its end; how many were killed."""
    folder.mkdir()
    for struck in itertools.count():
        before = {row[1]: row for row in sequence(folder) if row[2] != "RUNNING"} if struck else {}
        try:
            driven(folder, Fuse(rng.randrange(1, steps // 2)), **changes)
        except Killed:
            after = {row[1]: row for row in sequence(folder)}
            assert all(after[key] == row for key, row in before.items()), "a scored candidate changed"
            continue
        return struck
    raise AssertionError("endless")


def scored_again(folder: Path) -> int:
    """How often the scoring of a candidate began anew."""
    lines = (folder / "scored.log").read_text().splitlines()
    return len(lines) - len(set(lines))


def test_a_hundred_random_kills_change_nothing(tmp_path: Path) -> None:
    expected, steps = never_killed(tmp_path / "whole")
    assert len(expected) == CANDIDATES
    assert {row[2] for row in expected} == {"COMPLETE", "FAILED"}
    assert steps > 150
    rng, struck = random.Random(4), 0
    for number in itertools.count():
        folder = tmp_path / f"killed-{number}"
        kills = killed_until_done(folder, rng, steps)
        assert sequence(folder) == expected
        # What was under way when its driver ended is scored again; nothing else is.
        assert scored_again(folder) <= kills
        struck += kills
        if struck >= KILLS:
            return


@pytest.mark.parametrize("sampler", ["auto", "tpe", "nsga2", "qmc", "map"])
def test_every_kind_of_sampler_goes_on_as_if_nothing_had_happened(tmp_path: Path, sampler: str) -> None:
    expected, steps = never_killed(tmp_path / "whole", sampler=sampler)
    assert killed_until_done(tmp_path / "killed", random.Random(sampler), steps, sampler=sampler)
    assert sequence(tmp_path / "killed") == expected


def test_several_under_way_end_with_the_same_set(tmp_path: Path) -> None:
    expected, steps = never_killed(tmp_path / "whole", in_flight=3)
    rng = random.Random(5)
    for number in range(4):
        folder = tmp_path / f"killed-{number}"
        killed_until_done(folder, rng, steps, in_flight=3)
        found = sequence(folder)
        assert {row[1] for row in found} == {row[1] for row in expected}
        assert "RUNNING" not in {row[2] for row in found}


def test_five_processes_killed_by_the_system(tmp_path: Path) -> None:
    def start(folder: Path) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(SCRIPT), str(folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = start(tmp_path / "whole")
    expected = json.loads(whole.communicate(timeout=120)[0])
    assert len(expected) == 40
    log, rng, kills = tmp_path / "killed" / "scored.log", random.Random(6), 0
    finished: dict[str, int] = {}
    while kills < 5:
        driver = start(tmp_path / "killed")
        seen = len(log.read_text().splitlines()) if log.exists() else 0
        deadline = time.monotonic() + 60
        while driver.poll() is None and len(log.read_text().splitlines() if log.exists() else ()) < seen + 8:
            assert time.monotonic() < deadline, "the driver does not get on"
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait(timeout=30)
        assert driver.returncode == -signal.SIGKILL, "it ended before it could be killed"
        kills += 1
        store = Store(tmp_path / "killed" / "study.db")
        done = {p.key: p.tries for p in store.points("study") if p.state == "COMPLETE"}
        store.close()
        assert finished.items() <= done.items(), "a scored candidate was lost or scored again"
        finished = done
    last = start(tmp_path / "killed")
    assert json.loads(last.communicate(timeout=120)[0]) == expected
    lines = log.read_text().splitlines()
    assert len(lines) - len(set(lines)) <= kills
