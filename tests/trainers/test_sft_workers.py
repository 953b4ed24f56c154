"""Trainings in Ray Train workers under Ray Tune: the way that a run takes."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cluster.session import session
from cluster.trials import TrialOutcome, run_trials
from tests.cluster.helpers import train_body
from tests.trainers.tiny import letters, source, spec, write_base, write_rows
from trainers._types import Placement, TrainSpec

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with session("local", cpus=2):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    folder = tmp_path_factory.mktemp("world")
    return spec(
        write_base(folder / "base"),
        source("alpha", write_rows(folder / "a.jsonl", letters("alpha", 60)), 0.7),
        source("beta", write_rows(folder / "b.jsonl", letters("beta", 40)), 0.3),
    )


class Run(NamedTuple):
    """What is left of four trainings that ran two at a time."""

    folder: Path
    outcomes: dict[str, TrialOutcome]
    steps: list[int]  # of the one that was killed, as they were reported
    killed: list[int]

    def record(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / name / "training.json").read_text())
        return record


@pytest.fixture(scope="module")
def ran(made: TrainSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    bad = replace(made.sources[0], columns=(("response", "reply"),), probability=1.0)
    cases: dict[str, dict[str, Any]] = {
        "killed": {"spec": replace(made, steps=24), "placement": Placement(save_every=3), "workers": 1, "pause_s": 0.2},
        "one": {"spec": made, "placement": Placement(zero=2), "workers": 1},
        "bad": {"spec": replace(made, sources=(bad,)), "placement": Placement(), "workers": 1},
        "two": {"spec": made, "placement": Placement(zero=3), "workers": 2},
    }
    configs = [
        {
            **case,
            "out": str(folder / name),
            "work": str(folder / "work" / name),
            "spec": asdict(case["spec"]),
            "placement": asdict(case["placement"]),
        }
        for name, case in cases.items()
    ]
    steps: list[int] = []
    killed: list[int] = []

    def kill_once(index: int, metrics: dict[str, Any]) -> None:
        if index == 0:
            steps.append(metrics["step"])
            if metrics["step"] >= 7 and not killed:
                killed.append(metrics["pid"])
                os.kill(metrics["pid"], signal.SIGKILL)

    outcomes = run_trials(
        partial(train_body, storage=str(folder / "train")),
        configs,
        name="experts",
        storage=folder / "tune",
        resources=[{"CPU": 0}],
        concurrency=2,
        time_limit_s=280,
        on_report=kill_once,
    )
    return Run(folder, dict(zip(cases, outcomes, strict=True)), steps, killed)


def test_two_workers_make_the_model_of_one(ran: Run, made: TrainSpec) -> None:
    import torch
    from safetensors.torch import load_file

    assert ran.outcomes["one"].error is None
    assert ran.outcomes["two"].error is None
    assert ran.outcomes["two"].metrics["step"] == made.steps
    one, two = ran.record("one"), ran.record("two")
    assert (one["workers"], two["workers"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert two["tokens"] == one["tokens"]
    weights = load_file(ran.folder / "two" / "model.safetensors")
    for name, tensor in load_file(ran.folder / "one" / "model.safetensors").items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)


def test_bad_data_fails_one_trial_and_says_why(ran: Run) -> None:
    assert "InputError: data source 'alpha' has no column 'reply'" in (ran.outcomes["bad"].error or "")
    assert not (ran.folder / "bad").exists()


def test_a_killed_worker_goes_on_from_its_checkpoint(ran: Run) -> None:
    assert ran.killed
    assert ran.outcomes["killed"].error is None
    record = ran.record("killed")
    assert record["steps"] == 24
    assert record["resumed_at"] >= 6
    assert record["resumed_at"] % 3 == 0
    # The step counter went back to the checkpoint, not to the start.
    back = next(place for place in range(1, len(ran.steps)) if ran.steps[place] <= ran.steps[place - 1])
    assert ran.steps[back] == record["resumed_at"] + 1
    assert ran.steps[-1] == 24
    assert record["step"] == list(range(1, 25))
