from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster._crew import Limits
from cluster._errors import InputError
from cluster.fits import check_fits
from cluster.local import LocalPool
from cluster.pool import Outcome, Pool, open_pool
from cluster.session import session

pytestmark = pytest.mark.ray


def factory() -> Callable[[Any], Any]:
    """Doubles numbers, fails on text, and dies, hangs or waits when told to."""
    calls = 0

    def call(task: Any) -> Any:
        nonlocal calls
        calls += 1
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "die once" and not os.path.exists("died"):
            open("died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "hang":
            time.sleep(3600)
        if isinstance(task, str):
            raise ValueError(f"cannot double {task!r}\nsecond line")
        return 2 * task

    return call


def napping() -> Callable[[Any], Any]:
    """Answers with the task itself, a moment later."""

    def call(task: Any) -> Any:
        time.sleep(0.3)
        return task

    return call


def broken_factory() -> Callable[[Any], Any]:
    raise RuntimeError("no model here")


def drain(pool: Pool, count: int) -> dict[Any, Outcome]:
    found: dict[Any, Outcome] = {}
    while len(found) < count:
        found |= {outcome.ticket: outcome for outcome in pool.collect(60)}
    return found


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with session("local", cpus=2):
        yield


def test_the_local_pool_keeps_order_and_turns_failures_into_data() -> None:
    pool = LocalPool(factory)
    for task in (1, "x", 3):
        pool.submit(task, task)
    outcomes = [pool.collect(1)[0] for _ in range(3)]
    assert [outcome.value for outcome in outcomes] == [2, None, 6]
    assert outcomes[1].error == "ValueError: cannot double 'x'"
    assert "second line" in outcomes[1].trace
    assert pool.collect(1) == ()


def test_the_ray_pool_answers_like_the_local_one(ray_session: None) -> None:
    pool = open_pool(factory, actors=2, cpus=0.9, start_timeout_s=60)
    try:
        for task in (*range(20), "x"):
            pool.submit(task, task)
        outcomes = drain(pool, 21)
        assert [outcomes[task].value for task in range(20)] == [2 * task for task in range(20)]
        assert outcomes["x"].error == "ValueError: cannot double 'x'"
        assert pool.collect(1) == ()
        assert len(set(pool.worker_pids())) == 2
    finally:
        pool.close()


def test_a_worker_that_dies_is_replaced_and_its_task_tried_again(ray_session: None, tmp_path: Path) -> None:
    pool = open_pool(factory, actors=1, cpus=0.5, start_timeout_s=60)
    try:
        first = pool.worker_pids()
        pool.submit("mortal", "die")
        pool.submit(4, 4)
        outcomes = drain(pool, 2)
        assert outcomes["mortal"].value is None
        assert "worker died 2 times on this task" in str(outcomes["mortal"].error)
        assert outcomes[4].value == 8
        assert pool.worker_pids() != first
    finally:
        pool.close()


def test_a_killed_idle_worker_costs_no_task(ray_session: None) -> None:
    pool = open_pool(factory, actors=1, cpus=0.5, start_timeout_s=60)
    try:
        os.kill(pool.worker_pids()[0], signal.SIGKILL)
        pool.submit(5, 5)
        assert drain(pool, 1)[5].value == 10
    finally:
        pool.close()


def test_a_worker_that_hangs_is_replaced(ray_session: None) -> None:
    pool = open_pool(factory, actors=1, cpus=0.5, start_timeout_s=60, task_timeout_s=1)
    try:
        pool.submit("hang", "hang")
        pool.submit(6, 6)
        outcomes = drain(pool, 2)
        assert outcomes["hang"].error == "TimeoutError: no answer within 1 s"
        assert outcomes[6].value == 12
    finally:
        pool.close()


def test_a_worker_that_does_not_answer_is_found_and_its_task_tried_again(ray_session: None) -> None:
    pool = open_pool(factory, actors=1, cpus=0.5, limits=Limits(start_s=60, ping_every_s=0.1, ping_s=5))
    try:
        first = pool.worker_pids()
        os.kill(first[0], signal.SIGSTOP)
        pool.submit(9, 9)
        assert drain(pool, 1)[9].value == 18
        assert pool.worker_pids() != first
        stats = pool.stats()
        assert [event["event"] for event in stats["events"]] == ["worker started", "worker lost", "worker started"]
        assert stats["events"][1]["reason"] == "did not answer for 5 s"
        assert not pool.stats()["events"], "events are told once"
    finally:
        pool.close()


def test_a_broker_that_dies_is_replaced_and_its_tasks_begin_again(ray_session: None) -> None:
    pool = open_pool(napping, actors=2, cpus=0.5, start_timeout_s=60)
    try:
        for task in range(6):
            pool.submit(task, task)
        outcomes = drain(pool, 1)
        os.kill(pool.broker_pid(), signal.SIGKILL)
        while found := pool.collect(120):
            outcomes |= {outcome.ticket: outcome for outcome in found}
        assert len(outcomes) == 6
        assert all(outcome.value == ticket for ticket, outcome in outcomes.items())
    finally:
        pool.close()


def test_a_pool_grows_while_tasks_wait_and_gives_back_what_it_took(ray_session: None) -> None:
    import ray

    pool = open_pool(napping, actors=1, most=8, cpus=0.9, limits=Limits(start_s=60, idle_s=1))
    try:
        assert pool.grows
        for task in range(100):
            pool.submit(task, task)
        done = 0
        while pool.stats()["workers"] < 2:  # two fit on two CPUs
            done += len(pool.collect(60))
        assert done < 100, "it never grew"
        while done < 100:
            done += len(pool.collect(60))
        deadline = time.monotonic() + 60
        while pool.stats()["workers"] > 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert pool.stats()["workers"] == 1
    finally:
        pool.close()
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2


def test_waiting_has_a_limit(ray_session: None) -> None:
    pool = open_pool(factory, actors=1, cpus=0.5, start_timeout_s=60)
    try:
        pool.submit("hang", "hang")
        with pytest.raises(TimeoutError, match=r"no task of 1 under way ended within 0.5 s"):
            pool.collect(0.5)
    finally:
        pool.close()


def test_a_factory_that_fails_says_why(ray_session: None) -> None:
    with pytest.raises(RuntimeError, match=r"a worker could not start: .*no model here"):
        open_pool(broken_factory, actors=1, cpus=0.5, start_timeout_s=60)


def test_when_no_worker_can_be_replaced_tasks_end_with_the_reason(ray_session: None, tmp_path: Path) -> None:
    flag = tmp_path / "started"

    def once() -> Callable[[Any], Any]:
        if flag.exists():
            raise RuntimeError("the disk with the model is gone")
        flag.touch()
        return factory()

    pool = open_pool(once, actors=1, cpus=0.5, limits=Limits(start_s=60, patience_s=0.2))
    try:
        pool.submit("mortal", "die")
        pool.submit(7, 7)
        outcomes = drain(pool, 2)
        assert {outcome.error for outcome in outcomes.values()} == {
            "Unavailable: no worker is left: a worker could not start: RuntimeError: the disk with the model is gone"
        }
    finally:
        pool.close()


def test_what_can_never_be_given_is_refused_at_once(ray_session: None) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=r"cluster.evaluators needs 0.25 GPU on one node and the largest node has 0"):
        open_pool(factory, actors=4, cpus=0.9, gpus=0.25)
    assert time.monotonic() - start < 5
    with pytest.raises(InputError, match="at least 1, got 0"):
        open_pool(factory, actors=0, cpus=0.9)
    with pytest.raises(InputError, match=r"max must be at least min \(2\), got 1"):
        open_pool(factory, actors=2, most=1, cpus=0.9)
    check_fits([{"CPU": 1.0}, {"CPU": 1.0}], "two")


def test_what_is_taken_by_others_times_out_with_what_is_free(ray_session: None) -> None:
    holder = open_pool(factory, actors=1, cpus=1.5, start_timeout_s=60)
    try:
        with pytest.raises(TimeoutError, match=r"1 CPU each found no place within 3 s; free now: \{'CPU': 0.5"):
            open_pool(factory, actors=1, cpus=1.0, start_timeout_s=3)
    finally:
        holder.close()


@pytest.mark.parametrize("first", ["", "import ray; "])
def test_a_session_opens_whether_or_not_ray_was_imported_before(first: str) -> None:
    code = (
        f"{first}import os; from cluster.session import session\n"
        "with session('local', cpus=1):\n"
        "    import ray; print(ray.cluster_resources()['CPU'], os.environ.get('RAY_AUTH_MODE'))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["1.0", "token"]


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        InputError, match=rf"cluster.address: 127.0.0.1:{port}: nobody answers there .*say auto"
    ) as told:
        session(f"127.0.0.1:{port}").__enter__()
    assert told.value.exit_status == 2
