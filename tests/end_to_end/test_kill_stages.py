"""`kill -9` of a run whose search races: between the stages of a candidate and anywhere else, then the same command."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.store import Point, Store

from .world import database, kill_when, run, small_world

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3600)]

CANDIDATES = 16
STAGES = (0.1, 0.3, 1.0)
KILLS = 5
LIMIT_S = 900.0


def racing_world(folder: Path) -> Path:
    """One actor and equal shares, so that a search does not depend on how fast another one is."""
    recipe = small_world(folder, baseline=False)
    text = recipe.read_text(encoding="utf-8")
    text = re.sub(
        r"candidates: \d+.*",
        f"candidates: {CANDIDATES}\n  scheduler: fair\n  stages: {list(STAGES)}\n  drop_above: 0.7",
        text,
    )
    text = text.replace("{actors: 2,", "{actors: 1,")
    assert "actors: 1" in text
    recipe.write_text(text, encoding="utf-8")
    return recipe


def merges(out: Path) -> list[Point]:
    with database(out) as store:
        return [] if store is None else [point for point in store.points() if point.kind == "merge"]


def decided(out: Path) -> dict[tuple[str | None, str], tuple[Any, ...]]:
    """(search, key) -> state and items of every merge that is not under way; ids depend on which search was faster."""
    store = Store(out / "study.db")
    try:
        scores = store.scores("search")
        return {
            (point.search, point.key): (point.state, tuple(sorted((k, s) for k, s in scores.get(point.id, {}).items())))
            for point in merges(out)
            if point.state != "RUNNING"
        }
    finally:
        store.close()


def between_stages(out: Path) -> bool:
    """Whether a merge has the results of a stage, and its row is open."""
    left = [point.id for point in merges(out) if point.state == "RUNNING"]
    return any((out / "items" / f"{point}.search.parquet").is_file() for point in left)


def under_way(out: Path, more: int) -> Callable[[], bool]:
    """True once so many more merges have been entered."""
    wanted = min(len(merges(out)) + more, CANDIDATES)
    return lambda: len(merges(out)) >= wanted


def test_a_racing_run_that_is_killed_decides_what_one_that_is_not_decides(tmp_path: Path) -> None:
    recipe, whole, killed = racing_world(tmp_path / "world"), tmp_path / "whole", tmp_path / "killed"
    done = run("search", recipe, "--out", whole, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    expected = decided(whole)
    assert len(expected) == CANDIDATES
    assert {state for state, _ in expected.values()} == {"COMPLETE", "PRUNED"}
    log, rng, between = tmp_path / "driver.log", random.Random(12), 0
    found: dict[tuple[str | None, str], tuple[Any, ...]] = {}
    for number in range(KILLS):
        target = killed if (killed / "recipe.yaml").exists() else recipe
        arguments = ("search", target, *(("--out", killed) if target is recipe else ()))
        if number % 2 == 0:
            kill_when(lambda: between_stages(killed), log, *arguments, limit_s=LIMIT_S)
            between += between_stages(killed)
        else:
            kill_when(under_way(killed, 1), log, *arguments, limit_s=LIMIT_S)
            time.sleep(rng.random())
        before, found = found, decided(killed)
        assert before.items() <= found.items(), "a merge that was scored or dropped has changed"
    assert between >= 2, "kills were to fall between the stages of a merge"
    done = run("search", killed, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert decided(killed) == expected
    assert "RUNNING" not in {point.state for point in merges(killed)}
    turns = sorted(point.turn or 0 for point in merges(killed))
    assert turns == sorted(set(turns))
    assert all(point.tries <= 1 + KILLS for point in merges(killed))
