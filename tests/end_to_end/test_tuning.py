"""`kill -9` of the driver while it tunes: trials that ended stay, nothing is trained twice, the best is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search._training.tuner import EVENT

from .chains import chain, events, search
from .world import database, kill_when, run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2400)]

LIMIT_S = 1200.0
TRIALS = 5
TUNED = """\
  tuned:
    <<: *sft
    mix: {general: 0.5, safety: 0.5}
    steps: 8
    tune: {learning_rate: {low: 1.0e-5, high: 2.0e-3, log: true}, batch: [8, 16]}
    trials: 5
    scheduler: SCHEDULER
    metric: METRIC
    concurrency: 1
    keep: all
"""


def trial_events(out: Path) -> list[dict[str, Any]]:
    with database(out) as store:
        return [] if store is None else store.events(EVENT)


def ended(out: Path) -> int:
    return sum(event.get("state", "RUNNING") != "RUNNING" for event in trial_events(out))


def begun(out: Path) -> int:
    return sum(event.get("state") == "RUNNING" for event in trial_events(out))


@pytest.mark.parametrize(("metric", "scheduler"), [("loss", "asha"), ("safety", "fifo")])
def test_a_tuning_survives_kills(tmp_path: Path, metric: str, scheduler: str) -> None:
    text = TUNED.replace("SCHEDULER", scheduler).replace("METRIC", metric)
    recipe = chain(tmp_path / "world", text, search("general", "tuned"))
    out, log = tmp_path / "out", tmp_path / "driver.log"
    kill_when(lambda: begun(out) >= 2, log, "train", recipe, "--out", out, limit_s=LIMIT_S)
    first = trial_events(out)
    done_before = sorted(out.glob("trials/*/*/training.json"))
    stamps = {file: file.stat().st_mtime_ns for file in done_before}
    kill_when(lambda: ended(out) >= 3, log, "train", recipe, "--out", out, limit_s=LIMIT_S)
    second = trial_events(out)
    assert second[: len(first)] == first
    done = run("train", recipe, "--out", out, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    found = trial_events(out)
    assert found[: len(second)] == second
    ends = [event["number"] for event in found if event.get("state", "RUNNING") != "RUNNING"]
    assert sorted(ends) == list(range(1, TRIALS + 1)), "each trial ended once"
    starts = [event["number"] for event in found if event.get("state") == "RUNNING"]
    assert starts == list(range(1, TRIALS + 1)), "each trial was asked once"
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps, "a trial was trained again"
    tuned = next(out.glob("experts/*/tuning.json"))
    facts = json.loads(tuned.read_text())
    complete = {t["number"]: t["metric"] for t in facts["trials"] if t["state"] == "COMPLETE" and not t["same_as"]}
    best = min if metric == "loss" else max
    assert complete[facts["best"]] == best(complete.values())
    if scheduler == "fifo":
        assert len(complete) == TRIALS
        assert not any(t["rungs"] for t in facts["trials"]), "measured at the end alone"
    else:
        assert all(t["rungs"] for t in facts["trials"] if not t["same_as"]), "compared at real checkpoints"
    chosen = next(out.glob(f"trials/*/{facts['best']:03d}")) / "model.safetensors"
    assert chosen.read_bytes() == (tuned.parent / "model.safetensors").read_bytes()
    spec = json.loads((tuned.parent / "training.json").read_text())["spec"]
    params = next(t["params"] for t in facts["trials"] if t["number"] == facts["best"])
    assert (spec["learning_rate"], spec["batch"]) == (params["learning_rate"], params["batch"])
    assert run("train", recipe, "--out", out).stdout.startswith("nothing to train")
    names = [event["name"] for event in events(out) if event["event"] in ("trained", "tuned")]
    assert sorted(names) == ["general", "safety", "tuned"]


def test_failed_trials_are_named_with_their_reason(tmp_path: Path) -> None:
    text = """\
  tuned: &odd
    <<: *sft
    trainer: tests.end_to_end.odd:careful
    mix: {general: 1.0}
    steps: 4
    tune: {learning_rate: [5.0e-4, 5.0e-3]}
    trials: 4
    scheduler: fifo
    metric: general
  hopeless: {<<: *odd, trials: 2, tune: {learning_rate: [4.0e-3, 5.0e-3]}}
"""
    out = tmp_path / "out"
    recipe = chain(tmp_path / "world", text, search("general", "tuned"))
    done = run("train", recipe, "--out", out, limit_s=LIMIT_S)
    assert done.returncode == 1
    assert "hopeless: none of its 2 trials came to an end: trial 1: TrainingError: the rate 0.00" in done.stderr
    facts = json.loads(next(out.glob("experts/*/tuning.json")).read_text())
    states = {trial["params"]["learning_rate"]: trial["state"] for trial in facts["trials"]}
    assert states[5e-4] == "COMPLETE"
    assert facts["trials"][facts["best"] - 1]["params"] == {"learning_rate": 5e-4}
    for trial in facts["trials"]:
        if trial["params"]["learning_rate"] == 5e-3:
            assert trial["reason"] == "TrainingError: the rate 0.005 is too high"
    assert len(list(out.glob("experts/*/training.json"))) == 3, "what was trained is kept"
    assert not list(out.glob("trials/*/*")), "the best is kept, the rest removed"
