from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster._errors import InputError
from cluster.session import session
from cluster.trials import TrialOutcome, run_queue
from tests.cluster.helpers import varied_body

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with session("local", cpus=2):
        yield


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


def test_a_configuration_that_is_not_json_is_refused(tmp_path: Path) -> None:
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
