import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster._channel import Address, Inbox, Sender
from cluster._errors import InputError, WorkersFailed
from cluster.session import session
from cluster.training import run_workers
from cluster.trials import TrialOutcome, run_trials
from tests.cluster.helpers import group_body, group_loop

ray_test = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with session("local", cpus=2):
        yield


def test_messages_arrive_in_order() -> None:
    with Inbox("127.0.0.1") as inbox:
        one, two = Sender(inbox.address), Sender(inbox.address)
        for number in range(1000):
            one.send({"from": 1, "number": number})
        two.send({"from": 2, "text": "ï»¿\n"})
        received: list[dict[str, Any]] = []
        while len(received) < 1001:
            found = inbox.receive(5)
            assert found
            received.extend(found)
        assert [message["number"] for message in received if message["from"] == 1] == list(range(1000))
        assert [message["text"] for message in received if message["from"] == 2] == ["ï»¿\n"]
        assert inbox.senders == 2
        assert inbox.receive(0.01) == []


def test_a_stranger_is_not_heard() -> None:
    with Inbox("127.0.0.1") as inbox:
        Sender(Address(inbox.address.host, inbox.address.port, "guess")).send({"loss": 0.0})
        assert inbox.receive(0.5) == []
        assert inbox.senders == 0


@pytest.fixture(scope="module")
def groups(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialOutcome]:
    """Worker groups of all kinds, one trial each."""
    folder = tmp_path_factory.mktemp("groups")
    two: dict[str, Any] = {"workers": 2, "cpus": 0.5}
    cases: dict[str, dict[str, Any]] = {
        "good": {"do": "report", "group": two},
        "raises": {"do": "raise", "who": 1, "group": two},
        "survives": {"do": "die", "deaths": 1, "who": 1, "group": two},
        "dies": {"do": "die", "deaths": 9, "group": {"workers": 1, "cpus": 1, "restarts": 1}},
    }
    for name, case in cases.items():
        (folder / name).mkdir()
        case.update(name=name, marks=str(folder / name))
    outcomes = run_trials(
        partial(group_body, storage=str(folder / "train")),
        list(cases.values()),
        name="groups",
        storage=folder / "tune",
        resources=[{"CPU": 0}],
        concurrency=2,
        time_limit_s=280,
    )
    return dict(zip(cases, outcomes, strict=True))


@ray_test
def test_workers_know_who_they_are_and_only_the_first_is_heard(groups: dict[str, TrialOutcome]) -> None:
    assert groups["good"].error is None
    metrics = groups["good"].metrics
    assert metrics["rank"] == 0
    assert (metrics["RANK"], metrics["LOCAL_RANK"], metrics["WORLD_SIZE"]) == ("0", "0", "2")
    assert metrics["OMP_NUM_THREADS"] == "1"
    assert metrics["DS_ACCELERATOR"] == "cpu"
    assert metrics["HF_HUB_OFFLINE"] == "1"


@ray_test
def test_an_exception_names_its_worker_and_is_not_retried(groups: dict[str, TrialOutcome]) -> None:
    assert groups["raises"].error == "worker 1: ValueError: no such thing"
    assert len(list(Path(groups["raises"].config["marks"]).glob("life-1-*"))) == 1


@ray_test
def test_a_killed_worker_is_started_again(groups: dict[str, TrialOutcome]) -> None:
    assert groups["survives"].error is None
    assert len(list(Path(groups["survives"].config["marks"]).glob("life-1-*"))) == 2


@ray_test
def test_a_worker_that_always_dies_ends_the_trial(groups: dict[str, TrialOutcome]) -> None:
    assert groups["dies"].error == "worker 0 of 1: its process died (2 attempts)"


@ray_test
def test_workers_that_cannot_start_name_the_resource(cluster: None, tmp_path: Path) -> None:
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    taken = placement_group([{"CPU": 2}])
    ray.get(taken.ready(), timeout=60)
    config = {"do": "report", "marks": str(tmp_path)}
    try:
        with pytest.raises(WorkersFailed, match=r"did not start within 3 s: they wait for 1 CPU \(0 free\)"):
            run_workers(group_loop, config, name="late", storage=tmp_path, workers=1, cpus=1, start_timeout_s=3)
    finally:
        remove_placement_group(taken)


@ray_test
def test_what_a_cluster_may_still_grow_to_is_waited_for(cluster: None, tmp_path: Path) -> None:
    config = {"do": "report", "marks": str(tmp_path)}
    group: dict[str, Any] = {"name": "more", "storage": tmp_path, "workers": 3, "cpus": 1, "start_timeout_s": 3}
    with pytest.raises(InputError, match=r"needs 3 CPU and the cluster has 2"):
        run_workers(group_loop, config, **group)
    with pytest.raises(WorkersFailed, match=r"did not start within 3 s: they wait for 3 CPU \(2 free\)"):
        run_workers(group_loop, config, **group, elastic=True)


@ray_test
@pytest.mark.slow
def test_a_trial_that_is_killed_gives_its_workers_back(cluster: None, tmp_path: Path) -> None:
    import ray

    config = {"do": "sleep", "name": "hung", "marks": str(tmp_path), "group": {"workers": 2, "cpus": 1}}
    (outcome,) = run_trials(
        partial(group_body, storage=str(tmp_path / "train")),
        [config],
        name="hung",
        storage=tmp_path / "tune",
        resources=[{"CPU": 0}],
        concurrency=1,
        time_limit_s=30,
    )
    assert outcome.error == "not finished within 30 s"
    assert outcome.metrics["RANK"] == "0"  # the workers did run
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2


@ray_test
def test_more_workers_than_the_cluster_holds_are_refused(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a group of 3 workers needs 3 CPU and the cluster has 2"):
        run_workers(group_loop, {}, name="many", storage=tmp_path, workers=3, cpus=1)
