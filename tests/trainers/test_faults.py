"""Kills, full disks and stale locks, with real processes. Workers that are killed: ``test_sft_workers``."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.group import ROOT, case, run_group, start_group
from tests.trainers.tiny import letters, source, spec, write_base, write_rows
from trainers._types import Placement, TrainSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    folder = tmp_path_factory.mktemp("world")
    return spec(write_base(folder / "base"), source("a", write_rows(folder / "a.jsonl", letters("alpha", 60))))


def one_process(entry: dict[str, Any], folder: Path, *, limit: int = 0, **variables: str) -> None:
    """Run a case alone; `limit`: no file of this process may grow beyond, bytes."""
    file = folder / "cases.json"
    file.write_text(json.dumps([entry]))
    code = "import resource; from tests.trainers import group; "
    if limit:
        code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
    subprocess.run(
        [sys.executable, "-c", code + "group.main()", str(file)],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )


@pytest.mark.parametrize("save_every", [0, 2])
def test_a_full_disk_is_named_and_leaves_no_result(made: TrainSpec, tmp_path: Path, save_every: int) -> None:
    """The result has 120 kB, and a checkpoint with its optimizer state more: neither can be written."""
    entry = case(tmp_path, "out", "sft", made, Placement(zero=0, save_every=save_every))
    one_process(entry, tmp_path, limit=60_000)
    text = (tmp_path / "out.error").read_text()
    assert text.startswith("TrainingError: a checkpoint cannot be written (")
    assert str(tmp_path) in text
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    assert not list((tmp_path / "work").glob("**/complete.json"))
    # The same command with room for it.
    one_process(entry, tmp_path)
    assert (tmp_path / "out" / "training.json").is_file()


def test_nothing_is_compiled_and_no_stale_lock_is_waited_for(made: TrainSpec, tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    names = ("deepspeed_shm_comm", "cpu_adam", "fused_adam", "async_io")
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "lock").touch()
    for number, placement in enumerate((Placement(zero=2, offload=True), Placement(zero=3, offload=True))):
        entry = case(tmp_path, f"out{number}", "sft", made, placement)
        one_process(entry, tmp_path, TORCH_EXTENSIONS_DIR=str(folder))
        assert (tmp_path / f"out{number}" / "training.json").is_file()
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == sorted(
        f"{name}/lock" for name in names
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_group_goes_on_from_its_checkpoint(made: TrainSpec, tmp_path: Path, workers: int) -> None:
    """All workers at once, as a lost node: what is trained again is at most what came after the last checkpoint."""
    saving, placement = replace(made, steps=100), Placement(zero=2, save_every=5)
    entry = case(tmp_path, "out", "sft", saving, placement)
    work = Path(entry["work"])
    processes = start_group(tmp_path, [entry], workers)
    try:
        _wait(lambda: bool(list(work.glob("checkpoint-*/complete.json"))), processes[0])
    finally:
        for process in processes:
            process.kill()
            process.wait(60)
    assert not (tmp_path / "out").exists()
    newest = max(int(mark.parent.name.split("-")[1]) for mark in work.glob("checkpoint-*/complete.json"))
    run_group(tmp_path, [entry], workers)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["resumed_at"] == newest >= 5
    assert record["step"] == list(range(1, 101))
    assert record["tokens"]["a"]["samples"] == 100 * saving.batch


@pytest.mark.ray
def test_a_killed_driver_goes_on_from_its_checkpoint(made: TrainSpec, tmp_path: Path) -> None:
    config = {**case(tmp_path, "out", "sft", replace(made, steps=40), Placement(zero=2, save_every=4))}
    (tmp_path / "config.json").write_text(json.dumps({**config, "workers": 1, "pause_s": 0.1}))
    steps = tmp_path / "steps"
    steps.touch()

    def driver(number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.trainers.driver", str(tmp_path / "config.json"), f"tune{number}"]
        return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)

    first = driver(1)
    try:
        _wait(lambda: len(steps.read_text().split()) >= 10, first)
        first.send_signal(signal.SIGKILL)
        first.wait(60)
        killed_at = int(steps.read_text().split()[-1])
        steps.write_text("")
        second = driver(2)
        try:
            assert second.wait(1200) == 0
        finally:
            second.kill()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)  # what Ray had not yet seen to
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    seen = [int(step) for step in steps.read_text().split()]
    assert record["resumed_at"] % 4 == 0
    assert record["resumed_at"] >= killed_at - 4
    assert seen == list(range(record["resumed_at"] + 1, 41))
    assert record["step"] == list(range(1, 41))


def _wait(done: Any, process: subprocess.Popen[bytes], limit_s: float = 900) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
