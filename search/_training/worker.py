"""What runs in the processes of a training: its Tune trial, and the workers that the trial starts.

A trial of a tuned training is measured at its end and, where trials that lag are stopped, at its rungs: a quarter and
half of its steps. At a rung the workers stop at a checkpoint, the first one measures that checkpoint's weights, and all
go on from it: what is compared is a checkpoint that exists, under the rate schedule of the whole training, and no
processors are needed beside the training's own. The first worker holds a second copy of the model for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search._training.measure import Measure

Report = Callable[[Mapping[str, Any]], None]

RUNGS = (0.25, 0.5)
"""Shares of a trial's steps at which it is compared with the others."""


def rungs_of(steps: int) -> tuple[int, ...]:
    """The steps at which a training of so many is compared; multiples of the first, each once and below the end."""
    first = max(1, int(steps * RUNGS[0]))
    return tuple(dict.fromkeys(step for step in (first, 2 * first) if step < steps))


@dataclass(frozen=True)
class Placing:
    """The worker group of every training: `storage` for Ray's files, workers and what each holds.

    `elastic` says that the cluster adds nodes on demand; a group waits up to `start_timeout_s` for its place.
    """

    storage: str
    workers: int
    cpus: float
    gpus: float
    elastic: bool
    start_timeout_s: float


def trial(
    config: dict[str, Any], report: Report, *, placing: Placing, measures: Mapping[str, Measure]
) -> dict[str, Any] | None:
    """The body of one Tune trial: a worker group that trains one model."""
    from cluster.training import run_workers

    last: dict[str, Any] = {}

    def keep(metrics: Mapping[str, Any]) -> None:
        last.update(metrics)
        report(metrics)

    run_workers(
        _Loop(measures.get(config["tuned"]) if config.get("tuned") else None),
        config,
        name=config["run"],
        storage=Path(placing.storage),
        workers=placing.workers,
        cpus=placing.cpus,
        gpus=placing.gpus,
        report=keep,
        elastic=placing.elastic,
        start_timeout_s=placing.start_timeout_s,
    )
    return {"measured": last["measured"]} if "measured" in last else None


@dataclass(frozen=True)
class _Loop:
    """The body of every worker; `measure` for a trial of a tuned training."""

    measure: Measure | None

    def __call__(self, config: dict[str, Any], report: Report) -> None:
        if self.measure is None:
            _train(config, report)
            return
        first = os.environ.get("RANK", "0") == "0"
        measure = self.measure.load() if first else None
        rungs = config["rungs"]
        if rungs:
            config = {**config, "placement": {**config["placement"], "save_every": rungs[0]}}
        for rung in rungs:
            if rung in config["measured"]:
                continue
            checkpoint = _until(config, report, rung)
            # A group whose worker died begins here again, perhaps beyond a rung that was measured in its first life.
            if measure is not None and checkpoint.is_dir():
                report({"rung": rung, "metric": measure(str(checkpoint))})
        _train(config, report)
        if measure is not None:
            report({"measured": measure(config["out"])})


class _Pause(Exception):
    """Raised out of a training between two steps, in all workers at the same one."""


def _until(config: dict[str, Any], report: Report, step: int) -> Path:
    """Train until the checkpoint of `step` is whole, and return it."""

    def watched(metrics: Mapping[str, Any]) -> None:
        # A step is reported before it is saved: the checkpoint is there once the next one has been taken.
        if metrics["step"] > step:
            raise _Pause
        report(metrics)

    with suppress(_Pause):
        _train(config, watched)
    return Path(config["work"]) / f"checkpoint-{step}"


def _train(config: dict[str, Any], report: Report) -> None:
    from trainers._schema import run_trainer
    from trainers._types import placement_from_dict, spec_from_dict

    run_trainer(
        config["trainer"],
        spec_from_dict(config["spec"]),
        out=config["out"],
        work=config["work"],
        report=report,
        placement=placement_from_dict(config["placement"]),
    )


def plain(name: str, trainer: str, spec: Any, placement: Any, out: Path, work: Path) -> dict[str, Any]:
    """The configuration of a training that is carried out once, as `trial` reads it."""
    return {
        "name": name,
        "trainer": trainer,
        "spec": asdict(spec),
        "placement": asdict(placement),
        "out": str(out),
        "work": str(work),
        "run": out.name,
    }
