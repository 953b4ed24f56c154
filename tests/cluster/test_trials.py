from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster._errors import InputError
from cluster.session import session
from cluster.trials import TrialOutcome, run_queue, run_trials
from tests.cluster.helpers import varied_body

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with session("local", cpus=2):
        yield


def test_outcomes_come_in_order_and_failures_are_data(tmp_path: Path) -> None:
    configs: list[dict[str, Any]] = [
        {"do": "return", "value": [1, "two"], "steps": 2},
        {"do": "raise", "steps": 1},
        {"do": "not json"},
        {"do": "nan"},
        {"do": "die"},
        {"do": "nothing", "steps": 3},
    ]
    live: list[tuple[int, dict[str, Any]]] = []
    ended: list[TrialOutcome] = []
    before = {path.name for path in Path.home().glob("ray_results/*")}
    outcomes = run_trials(
        varied_body,
        configs,
        name="varied",
        storage=tmp_path,
        resources=[{"CPU": 0}],
        concurrency=2,
        time_limit_s=120,
        on_report=lambda index, metrics: live.append((index, metrics)),
        on_result=ended.append,
    )
    assert [outcome.index for outcome in outcomes] == list(range(6))
    assert [outcome.config for outcome in outcomes] == configs
    assert outcomes[0].error is None
    assert outcomes[0].metrics == {"step": 2, "loss": 0.5, "answer": [1, "two"]}
    assert outcomes[1].error == "ValueError: the rule is broken"
    assert outcomes[1].metrics == {"step": 1, "loss": 1.0}
    assert "cannot be written as JSON" in (outcomes[2].error or "")
    assert "cannot be written as JSON" in (outcomes[3].error or "")
    assert outcomes[4].error == "the trial's process died"
    assert outcomes[5].error is None
    assert outcomes[5].metrics == {"step": 3, "loss": 1 / 3}
    assert [metrics["step"] for index, metrics in live if index == 5] == [1, 2, 3]
    assert sorted(outcome.index for outcome in ended) == list(range(6))
    assert {path.name for path in Path.home().glob("ray_results/*")} == before


def test_a_time_limit_says_what_was_waited_for(tmp_path: Path) -> None:
    outcomes = run_trials(
        varied_body,
        [{"do": "sleep"}, {"do": "sleep"}],
        name="late",
        storage=tmp_path,
        resources=[{"CPU": 2}],
        concurrency=2,
        time_limit_s=12,
    )
    errors = [outcome.error or "" for outcome in outcomes]
    assert errors[0] == "not finished within 12 s"
    assert errors[1].startswith("not finished within 12 s: it never started; it waits for 2 CPU, free:")


def test_the_console_stays_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_trials(
        varied_body,
        [{"do": "return", "value": 1}],
        name="silent",
        storage=tmp_path,
        resources=[{"CPU": 1}],
        concurrency=1,
        time_limit_s=60,
    )
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_what_the_cluster_can_never_give_is_refused(tmp_path: Path) -> None:
    def start(resources: list[dict[str, float]]) -> None:
        run_trials(
            varied_body,
            [{"do": "nothing"}],
            name="greedy",
            storage=tmp_path,
            resources=resources,
            concurrency=1,
            time_limit_s=60,
        )

    with pytest.raises(InputError, match="needs 64 CPU on one node and the largest node has 2"):
        start([{"CPU": 64}])
    with pytest.raises(InputError, match="needs 1 GPU on one node and the largest node has 0"):
        start([{"GPU": 1}])
    with pytest.raises(InputError, match="needs 3 CPU and the cluster has 2"):
        start([{"CPU": 1}, {"CPU": 2}])


def test_a_scheduler_stops_what_is_weak_and_that_is_no_failure(tmp_path: Path) -> None:
    from ray.tune.schedulers import ASHAScheduler

    outcomes = run_trials(
        varied_body,
        [{"do": "nothing", "steps": 8}, {"do": "nothing", "steps": 8}],
        name="asha",
        storage=tmp_path,
        resources=[{"CPU": 1}],
        concurrency=1,
        time_limit_s=60,
        scheduler=ASHAScheduler(
            time_attr="step", metric="step", mode="max", max_t=4, grace_period=2, reduction_factor=2
        ),
    )
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert outcomes[0].stopped
    assert outcomes[0].metrics["step"] == 4


def test_a_configuration_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="configuration 0 of 'odd' cannot be written as JSON"):
        run_trials(
            varied_body,
            [{"do": object()}],
            name="odd",
            storage=tmp_path,
            resources=[{"CPU": 1}],
            concurrency=1,
            time_limit_s=60,
        )


class Chain:
    """Each entry may begin when those before it that it names have ended."""

    def __init__(self, *entries: tuple[dict[str, Any], tuple[int, ...]]) -> None:
        self.entries = dict(enumerate(entries))
        self.handed: list[int] = []
        self.ended: list[int] = []

    def next(self) -> tuple[int, dict[str, Any]] | None:
        for index, (config, after) in self.entries.items():
            if index not in self.handed and all(other in self.ended for other in after):
                self.handed.append(index)
                return index, config
        return None

    def finished(self) -> bool:
        return len(self.handed) == len(self.entries)

    def end(self, outcome: TrialOutcome) -> None:
        self.ended.append(outcome.index)


def test_what_waits_for_another_begins_when_that_ended(tmp_path: Path) -> None:
    work = Chain(
        ({"do": "return", "value": "first"}, ()),
        ({"do": "return", "value": "third"}, (0, 2)),
        ({"do": "raise"}, ()),
    )
    outcomes = run_queue(
        varied_body,
        work,
        name="chain",
        storage=tmp_path,
        resources=[{"CPU": 0.5}],
        concurrency=2,
        time_limit_s=120,
        on_result=work.end,
    )
    assert work.handed == [0, 2, 1]
    assert [outcome.index for outcome in outcomes] == [0, 2, 1]
    assert [outcome.metrics.get("answer") for outcome in outcomes] == ["first", None, "third"]
    assert [outcome.error for outcome in outcomes] == [None, "ValueError: the rule is broken", None]


def test_a_report_can_end_its_trial(tmp_path: Path) -> None:
    work = Chain(({"do": "sleep", "steps": 4}, ()), ({"do": "return", "value": 1, "steps": 4}, ()))
    outcomes = run_queue(
        varied_body,
        work,
        name="stopped",
        storage=tmp_path,
        resources=[{"CPU": 1}],
        concurrency=1,
        time_limit_s=120,
        on_result=work.end,
        stop=lambda index, metrics: index == 0 and metrics["step"] == 2,
    )
    assert [outcome.stopped for outcome in outcomes] == [True, False]
    assert outcomes[0].metrics["step"] == 2
    assert outcomes[1].metrics["answer"] == 1


def test_what_is_handed_out_and_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="configuration 0 cannot be written as JSON"):
        run_queue(
            varied_body,
            Chain(({"do": object()}, ())),
            name="odd",
            storage=tmp_path,
            resources=[{"CPU": 1}],
            concurrency=1,
            time_limit_s=60,
        )
