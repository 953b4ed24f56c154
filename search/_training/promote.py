"""The best trial of a tuned training becomes the model; the others' checkpoints go, or stay, as the recipe says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from search._study.place import write_atomic
from search._training.model import Model
from search._training.seal import seal
from search._training.tuner import Trial
from search.run.rundir import Run

TUNING = "tuning.json"


def folder(run: Run, model: Model) -> Path:
    """Where the checkpoints of a tuned model's trials lie, each in a directory named by its number."""
    return run.path / "trials" / model.hash


def promote(run: Run, model: Model, trials: Sequence[Trial], best: Trial) -> None:
    """Put the best trial's checkpoint where the model belongs, with `tuning.json`: all that was tried."""
    assert model.tuning is not None
    source = folder(run, model) / f"{best.number:03d}"
    # One name for all drivers: what a kill left half-way is gone on with.
    made = model.path.with_name(f".{model.path.name}.part")
    if model.tuning.keep_all:
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(source, made, copy_function=_link)
    elif source.exists():
        shutil.rmtree(made, ignore_errors=True)
        source.rename(made)
    facts = {
        "metric": model.tuning.metric,
        "direction": model.tuning.direction,
        "space": {key: list(values) for key, (_, values) in model.tuning.space},
        "best": best.number,
        "trials": [asdict(trial) for trial in trials],
    }
    write_atomic(made / TUNING, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    seal(made)
    made.rename(model.path)
    if not model.tuning.keep_all:
        shutil.rmtree(folder(run, model), ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
