"""Trainings in Ray Train workers under Ray Tune: the way that a run takes."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.trials import TrialOutcome, run_trials
from tests.cluster.helpers import ray_session, train_body
from tests.trainers.tiny import letters, source, spec, write_base, write_rows
from trainers import TrainSpec

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session(2):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    folder = tmp_path_factory.mktemp("world")
    return spec(
        write_base(folder / "base"),
        source("alpha", write_rows(folder / "a.jsonl", letters("alpha", 60)), 0.7),
        source("beta", write_rows(folder / "b.jsonl", letters("beta", 40)), 0.3),
    )


def train(folder: Path, cases: dict[str, dict[str, Any]], concurrency: int, **options: Any) -> dict[str, TrialOutcome]:
    configs = [
        {**case, "out": str(folder / name), "work": str(folder / "work" / name), "spec": asdict(case["spec"])}
        for name, case in cases.items()
    ]
    outcomes = run_trials(
        partial(train_body, storage=str(folder / "train")),
        configs,
        name="experts",
        storage=folder / "tune",
        resources=[{"CPU": 0}],
        concurrency=concurrency,
        time_limit_s=280,
        **options,
    )
    return dict(zip(cases, outcomes, strict=True))


def test_two_workers_make_the_model_of_one(made: TrainSpec, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    bad = replace(made, sources=(replace(made.sources[0], columns=(("response", "reply"),), probability=1.0),))
    outcomes = train(
        tmp_path,
        {
            "one": {"spec": replace(made, zero=2), "workers": 1},
            "bad": {"spec": bad, "workers": 1},
            "two": {"spec": replace(made, zero=3), "workers": 2},
        },
        concurrency=1,
    )
    assert outcomes["one"].error is None
    assert outcomes["two"].error is None
    assert outcomes["bad"].error is not None
    assert "InputError: data source 'alpha' has no column 'reply'" in outcomes["bad"].error
    assert not (tmp_path / "bad").exists()
    assert outcomes["two"].metrics["step"] == made.steps
    one, two = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("one", "two"))
    assert (one["workers"], two["workers"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert two["tokens"] == one["tokens"]
    weights = load_file(tmp_path / "two" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "one" / "model.safetensors").items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_killed_worker_goes_on_from_its_checkpoint(made: TrainSpec, tmp_path: Path) -> None:
    killed: list[int] = []
    steps: list[int] = []

    def kill_once(index: int, metrics: dict[str, Any]) -> None:
        steps.append(metrics["step"])
        if metrics["step"] >= 7 and not killed:
            killed.append(metrics["pid"])
            os.kill(metrics["pid"], signal.SIGKILL)

    outcomes = train(
        tmp_path,
        {"expert": {"spec": replace(made, steps=24, save_every=3), "workers": 1, "pause_s": 0.2}},
        concurrency=1,
        on_report=kill_once,
    )
    assert killed
    assert outcomes["expert"].error is None
    record = json.loads((tmp_path / "expert" / "training.json").read_text())
    assert record["steps"] == 24
    assert record["resumed_at"] >= 6
    assert record["resumed_at"] % 3 == 0
    # The step counter went back to the checkpoint, not to the start.
    back = next(place for place in range(1, len(steps)) if steps[place] <= steps[place - 1])
    assert steps[back] == record["resumed_at"] + 1
    assert steps[-1] == 24
    assert record["step"] == list(range(1, 25))
