"""Bodies of trials and workers: importable by name in Ray's processes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Report = Callable[[Mapping[str, Any]], None]


def train_body(config: dict[str, Any], report: Report, *, storage: str, workers: int) -> None:
    from cluster.training import run_workers

    run_workers(
        train_loop,
        config,
        name=Path(config["out"]).name,
        storage=Path(storage),
        workers=workers,
        cpus=1,
        report=report,
    )


def train_loop(config: dict[str, Any], report: Report) -> None:
    from trainers import load_trainer, spec_from_dict

    load_trainer("sft")(spec_from_dict(config["spec"]), out=config["out"], work=config["work"], report=report)
