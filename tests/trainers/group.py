"""Trainings in real worker processes without Ray, started as torchrun would: ``python -m tests.trainers.group FILE``.

The file holds a JSON list of cases {name, trainer, spec, placement, out, work}; one group runs them one after the
other. A case that fails leaves ``OUT.error`` with the error's kind and text.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trainers
from trainers._schema import run_trainer
from trainers._types import Placement, TrainSpec, placement_from_dict, spec_from_dict

ROOT = Path(trainers.__file__).parent.parent


def case(folder: Path, name: str, trainer: str, spec: TrainSpec, placement: Placement) -> dict[str, Any]:
    return {
        "trainer": trainer,
        "spec": asdict(spec),
        "placement": asdict(placement),
        "out": str(folder / name),
        "work": str(folder / "work" / name),
    }


def start_group(folder: Path, cases: Sequence[Mapping[str, Any]], workers: int) -> list[subprocess.Popen[bytes]]:
    """Start `workers` processes that run `cases` together."""
    file = folder / f"cases-{workers}.json"
    file.write_text(json.dumps(list(cases)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": str(workers), "LOCAL_WORLD_SIZE": str(workers), "MASTER_ADDR": "127.0.0.1"}
    rendezvous = {**shared, "MASTER_PORT": port} if workers > 1 else {}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.trainers.group", str(file)],
            cwd=ROOT,
            env={**os.environ, **rendezvous, **({"RANK": str(rank), "LOCAL_RANK": str(rank)} if rendezvous else {})},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(workers)
    ]


def run_group(folder: Path, cases: Sequence[Mapping[str, Any]], workers: int, timeout_s: float = 1500) -> None:
    """Run `cases` in `workers` processes and wait for their end."""
    processes = start_group(folder, cases, workers)
    try:
        codes = [process.wait(timeout_s) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * workers


def main() -> None:
    for entry in json.loads(Path(sys.argv[1]).read_text()):
        try:
            run_trainer(
                entry["trainer"],
                spec_from_dict(entry["spec"]),
                out=entry["out"],
                work=entry["work"],
                report=lambda _: None,
                placement=placement_from_dict(entry["placement"]),
            )
        except Exception as error:
            Path(entry["out"] + ".error").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
