"""`kill -9` of the driver, in training and in the search: the same command goes on, and nothing is done twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from search.store import Point

from .world import CANDIDATES, database, kill_when, run, small_world

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def points(out: Path) -> dict[str, Point]:
    with database(out) as store:
        return {} if store is None else {point.id: point for point in store.points()}


def scored(out: Path) -> dict[str, Point]:
    return {name: point for name, point in points(out).items() if point.state == "COMPLETE"}


def merges(out: Path) -> int:
    return sum(point.kind == "merge" for point in scored(out).values())


def trained(out: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in out.glob("experts/*/training.json")}


def test_a_run_survives_kills_in_training_and_in_the_search(tmp_path: Path) -> None:
    recipe, out = small_world(tmp_path / "world", baseline=False), tmp_path / "out"
    log = tmp_path / "driver.log"
    kill_when(lambda: "loss" in log.read_text(), log, "run", recipe, "--out", out)
    assert not scored(out)
    kept = trained(out)
    kill_when(lambda: merges(out) >= 3, log, "run", out)
    experts, before = trained(out), scored(out)
    assert len(experts) == 2
    assert kept.items() <= experts.items(), "a trained expert was trained again"
    done = run("run", out)
    assert done.returncode == 0, done.stderr
    after = points(out)
    assert trained(out) == experts, "a trained expert was trained again"
    assert before.items() <= after.items(), "a scored point was scored again"
    assert {point.state for point in after.values()} == {"COMPLETE"}
    assert sum(point.kind == "merge" for point in after.values()) == CANDIDATES
    assert all(after[name].tries == 1 for name in before)
    again = [point for point in after.values() if point.tries > 1]
    assert len(again) <= 4, "more was lost than the work in flight"
    turns = sorted(point.turn or 0 for point in after.values())
    assert turns == list(range(1, len(after) + 1))
    document = json.loads(run("front", out, "--json").stdout)
    assert document["split"] == "report"
    assert (out / "report.html").is_file()
    assert not (out / "scratch").exists()


def test_two_drivers_never_share_a_run_and_ctrl_c_says_that_what_ran_is_kept(tmp_path: Path) -> None:
    recipe, out = small_world(tmp_path / "world", baseline=False), tmp_path / "out"
    log = tmp_path / "driver.log"
    refused: list[str] = []

    def second_is_refused_in_training() -> bool:
        if "loss" not in log.read_text():
            return False
        done = run("run", out)
        assert done.returncode == 2
        refused.append(done.stderr)
        return True

    kill_when(second_is_refused_in_training, log, "run", recipe, "--out", out, signal_=signal.SIGINT)
    assert "another mergefront process works on this run (pid " in refused[0]
    assert "interrupted; what ran is kept, the same command goes on with it" in log.read_text()
    assert "Traceback" not in log.read_text()
