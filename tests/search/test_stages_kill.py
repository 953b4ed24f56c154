"""A search in stages, killed by the system in the middle of its candidates, decides what one that was not decides."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search._study.loop import FINAL
from search.store import Store

from .killed_stages import CANDIDATES, decisions
from .test_study_stages import METHOD

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0


def start(folder: Path, seconds: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.search.killed_stages", str(folder), str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def lines(folder: Path) -> list[str]:
    log = folder / "scored.log"
    return log.read_text().splitlines() if log.exists() else []


def killed_after(folder: Path, count: Callable[[list[str]], int], wanted: int, later_s: float, seconds: float) -> None:
    """Start a driver, wait until what it has logged counts `wanted`, and a moment more; then kill it."""
    seen = len(lines(folder))
    driver = start(folder, seconds)
    try:
        deadline = time.monotonic() + LIMIT_S
        while count(lines(folder)[seen:]) < wanted:
            assert driver.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline, "the driver does not get on"
            time.sleep(0.002)
        time.sleep(later_s)
        assert driver.poll() is None, "it ended before it could be killed"
    finally:
        driver.kill()
        driver.wait(timeout=30)
        assert driver.stdout is not None
        driver.stdout.close()
    assert driver.returncode == -signal.SIGKILL


def later_stages(log: list[str]) -> int:
    """How many stages but the first of a candidate have begun."""
    return sum(line.startswith("begin") and not line.endswith("from 0") for line in log)


def states(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Key -> everything of a candidate that was decided."""
    return {row[1]: tuple(map(str, row)) for row in decisions(folder) if row[2] != "RUNNING"}


def under_way(folder: Path) -> list[str]:
    store = Store(folder / "study.db")
    try:
        return [point.id for point in store.points(METHOD) if point.state == "RUNNING"]
    finally:
        store.close()


def finalists(folder: Path) -> set[str]:
    """Ids of the candidates that finals have given the rest of the items."""
    store = Store(folder / "study.db")
    try:
        return {point for event in store.events(FINAL) for point in event["points"]}
    finally:
        store.close()


def lasts(row: tuple[Any, ...], now: tuple[Any, ...] | None, reopened: set[str]) -> bool:
    """Whether a decision stands: only a final, whose event names it, takes up a dropped candidate again."""
    if now == row:
        return True
    if row[2] != "PRUNED" or row[0] not in reopened:
        return False
    return now is None or (now[2] == "COMPLETE" and (now[0], now[3]) == (row[0], row[3]))


@pytest.mark.slow
def test_processes_killed_between_stages_and_anywhere_end_with_the_same_decisions(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = json.loads(start(whole).communicate(timeout=LIMIT_S)[0])
    assert len(expected) == CANDIDATES
    assert {row[2] for row in expected} == {"COMPLETE", "PRUNED"}
    rng, between, kills = random.Random(11), 0, 0
    for number in range(7):
        before = states(killed) if number else {}
        if number % 2 == 0:
            # While a later stage is scored: the earlier ones are kept, the candidate's row is open.
            killed_after(killed, later_stages, rng.randrange(1, 4), later_s=0.0, seconds=0.3)
            left = under_way(killed)
            between += any((killed / "items" / f"{point}.search.parquet").is_file() for point in left)
        else:
            killed_after(killed, len, rng.randrange(4, 10), later_s=rng.random() * 0.05, seconds=0.01)
        kills += 1
        after = states(killed)
        reopened = finalists(killed)
        for key, row in before.items():
            assert lasts(row, after.get(key), reopened), "a candidate that was scored or dropped has changed"
    assert between == 4, "kills were to fall between the stages of a candidate"
    found = json.loads(start(killed).communicate(timeout=LIMIT_S)[0])
    assert found == expected
    assert under_way(killed) == []
    # A stage that had ended before its results were kept is scored once more; no other is.
    again = Counter(line for line in lines(killed) if line.startswith("end"))
    assert sum(again.values()) - len(again) <= kills
    assert len(again) == len({line for line in lines(whole) if line.startswith("end")})
