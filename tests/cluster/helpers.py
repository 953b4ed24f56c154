"""Bodies of trials and loops of workers for the tests: Ray's processes import them by name."""

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Report = Callable[[Mapping[str, Any]], None]


def varied_body(config: dict[str, Any], report: Report) -> dict[str, Any] | None:
    """Does what its configuration says."""
    for step in range(1, config.get("steps", 0) + 1):
        report({"step": step, "loss": 1 / step})
    match config["do"]:
        case "return":
            return {"answer": config["value"]}
        case "nothing":
            return None
        case "raise":
            raise ValueError("the rule is broken\nand more lines follow")
        case "not json":
            return {"answer": {1, 2}}
        case "nan":
            report({"loss": math.nan})
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(600)
    return None


def group_body(config: dict[str, Any], report: Report, *, storage: str) -> None:
    """A worker group in a trial, as `config` describes it."""
    from cluster.training import run_workers

    run_workers(group_loop, config, name=config["name"], storage=Path(storage), report=report, **config["group"])


def group_loop(config: dict[str, Any], report: Report) -> None:
    """Does what its configuration says."""
    rank = int(os.environ["RANK"])
    marks = Path(config["marks"])
    lives = len(list(marks.glob(f"life-{rank}-*")))
    (marks / f"life-{rank}-{lives}").touch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS", "DS_ACCELERATOR", "HF_HUB_OFFLINE")
    if rank == 0:
        report({"life": lives, **{name: os.environ.get(name) for name in names}})
    match config["do"]:
        case "raise" if rank == config.get("who", 0):
            raise ValueError("no such thing")
        case "sleep":
            time.sleep(600)
        case "die" if lives < config["deaths"] and rank == config.get("who", 0):
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            report({"rank": rank})


def train_body(config: dict[str, Any], report: Report, *, storage: str) -> None:
    """One training in a trial."""
    from cluster.training import run_workers

    run_workers(
        train_loop,
        config,
        name=Path(config["out"]).name,
        storage=Path(storage),
        workers=config["workers"],
        cpus=1 / config["workers"],
        report=report,
    )


def train_loop(config: dict[str, Any], report: Report) -> None:
    """The body of every worker of a training; says which process the first one is."""
    from trainers._schema import run_trainer
    from trainers._types import placement_from_dict, spec_from_dict

    def with_pid(metrics: Mapping[str, Any]) -> None:
        time.sleep(config.get("pause_s", 0))
        report({**metrics, "pid": os.getpid()})

    run_trainer(
        config.get("trainer", "sft"),
        spec_from_dict(config["spec"]),
        out=config["out"],
        work=config["work"],
        report=with_pid,
        placement=placement_from_dict(config.get("placement", {})),
    )
