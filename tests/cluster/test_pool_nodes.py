"""Pools over several nodes, which are real Ray nodes of this machine: they join, are killed, and come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks._nodes import Nodes, nodes
from cluster.pool import Limits, Outcome, RayPool, open_pool
from cluster.session import session

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


def working() -> Callable[[Any], Any]:
    """Answers with the task and its process, half a second later."""

    def call(task: Any) -> Any:
        time.sleep(0.5)
        return task, os.getpid()

    return call


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(2, cpus=1) as made, session(made.address):
        yield made


def collected(pool: RayPool, count: int) -> list[Outcome]:
    found: list[Outcome] = []
    while len(found) < count:
        found += pool.collect(120)
    return found


def until(what: str, true: Callable[[], bool], limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def test_a_lost_node_costs_no_task_and_a_new_one_takes_its_place(cluster: Nodes) -> None:
    pool = open_pool(working, actors=2, cpus=1, limits=Limits(start_s=120, retries=0))
    try:
        assert pool.stats()["nodes"] == 2, "workers are spread over nodes"
        for task in range(30):
            pool.submit(task, task)
        done = collected(pool, 4)
        cluster.kill(0)
        done += collected(pool, 8)  # by the node that is left
        cluster.add()
        done += collected(pool, 18)
        assert sorted(outcome.value[0] for outcome in done) == list(range(30))
        until("a second worker is back", lambda: pool.stats()["workers"] == 2)
        until("the loss is understood", lambda: pool.stats()["lost_nodes"] == 1)
        assert pool.stats()["lost_workers"] == 0, "with retries=0 a task would have failed"
    finally:
        pool.close()


def test_a_node_that_joins_is_used(cluster: Nodes) -> None:
    pool = open_pool(working, actors=2, most=10, cpus=1, limits=Limits(start_s=120))
    try:
        for task in range(200):
            pool.submit(task, task)
        collected(pool, 4)
        assert pool.size == 2
        cluster.add()
        until("a third worker", lambda: bool(pool.collect(60)) and pool.stats()["workers"] == 3)
        assert pool.stats()["nodes"] == 3
    finally:
        pool.close()


def test_two_pools_never_hold_half_of_the_cluster_each(cluster: Nodes) -> None:
    count = len(cluster.alive)
    first = open_pool(working, actors=count, cpus=1, limits=Limits(start_s=120))
    try:
        with pytest.raises(TimeoutError, match=rf"{count} workers with 1 CPU each found no place within 5 s"):
            open_pool(working, actors=count, cpus=1, limits=Limits(start_s=5))
    finally:
        first.close()


def test_a_search_on_nodes_that_are_killed_scores_the_same(tmp_path: Path) -> None:
    code = "import json; from benchmarks._kills import kills; print(json.dumps(kills(3, 10.0)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["disturbed"]["killed"] == 3
    assert (found["scored"], found["lost"], found["additional"], found["failed"]) == (found["candidates"], 0, 0, 0)
    assert found["same_scores"]
