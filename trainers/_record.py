"""``training.json``: what a training did and what it took, with the same keys whatever the trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ._costs import Costs, flops, parameters, peaks
from ._deepspeed import sum_over_workers
from ._tally import by_source_and_language
from ._types import Placement, TrainSpec

_NO_CURVES = ("step", "epoch", "loss", "learning_rate", "total_flos", "num_tokens", "num_input_tokens_seen")


def record(
    name: str,
    spec: TrainSpec,
    placement: Placement,
    trainer: Any,
    groups: Sequence[tuple[str, str]],
    costs: Costs,
    *,
    resumed_at: int | None,
    workers: int,
    more_forward: float,
) -> dict[str, Any]:
    """The record of a finished training; call on every worker.

    Args:
        name: of the trainer.
        spec: as given.
        placement: as given.
        trainer: of transformers, after its last step.
        groups: pairs (source, language) that the rows of ``trainer.counted`` stand for.
        costs: the meter.
        resumed_at: step of the checkpoint that this life went on from.
        workers: how many.
        more_forward: see `flops`.

    Returns:
        What docs/trainers.md lists.
    """
    counted = sum_over_workers(trainer.counted)
    count = parameters(trainer.accelerator.unwrap_model(trainer.model_wrapped))
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    tokens = int(counted[:, 1].sum())
    return {
        "trainer": name,
        "spec": asdict(spec),
        "placement": asdict(placement),
        "steps": trainer.state.global_step,
        "step": [entry["step"] for entry in logs],
        "loss": [entry["loss"] for entry in logs],
        "learning_rate": [entry["learning_rate"] for entry in logs],
        "curves": curves(logs),
        **by_source_and_language(groups, counted.tolist()),
        "parameters": {key: count[key] for key in ("all", "trained")},
        "flops": flops(count, tokens, more_forward),
        **costs.total(),
        **peaks(),
        "resumed_at": resumed_at,
        "workers": workers,
    }


def curves(logs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Name -> value at every step, of what the trainer logged besides loss and rate; the finite ones."""
    names = dict.fromkeys(key for entry in logs for key in entry if key not in _NO_CURVES)
    found = {name: [entry.get(name) for entry in logs] for name in names}
    return {
        name: [float(value) for value in values if value is not None]
        for name, values in found.items()
        if all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    }
