"""``training.json``: what a training did and what it took, with the same keys whatever the trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ._costs import flops, parameters, peaks
from ._deepspeed import sum_over_workers
from ._tally import by_source_and_language, shares
from ._types import Placement, TrainSpec

if TYPE_CHECKING:
    from ._built import Fitted

_PEAKS = ("peak_rss_bytes", "peak_device_bytes")
_NO_CURVES = ("step", "epoch", "loss", "learning_rate", "total_flos", "num_tokens", "num_input_tokens_seen")


def record(
    name: str,
    spec: TrainSpec,
    placement: Placement,
    fitted: Fitted,
    workers: int,
) -> dict[str, Any]:
    """The record of a finished training, with the keys that docs/trainers.md lists; call on every worker.

    Args:
        name: of the trainer.
        spec: as given.
        placement: as given.
        fitted: what was trained.
        workers: how many.
    """
    trainer, groups, more_forward = fitted.built
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
        **fitted.costs.total(),
        **peaks(),
        "resumed_at": fitted.resumed_at,
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


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """One record of two trainings that followed each other; the costs of the second hold those of the first.

    The curves keep their own steps: ``first/..`` and ``second/..``.
    """
    tallies = {
        key: {
            name: _added(first[key].get(name, {}), second[key].get(name, {})) for name in {**first[key], **second[key]}
        }
        for key in ("tokens", "languages")
    }
    peaks = {key: max((r[key] for r in (first, second) if r[key] is not None), default=None) for key in _PEAKS}
    resumed = second["resumed_at"]
    return {
        **second,
        **tallies,
        **peaks,
        "shares": shares(tallies["tokens"]),
        "steps": first["steps"] + second["steps"],
        "step": [*first["step"], *(first["steps"] + step for step in second["step"])],
        **{key: [*first[key], *second[key]] for key in ("loss", "learning_rate")},
        "curves": {
            f"{which}/{name}": values
            for which, part in (("first", first), ("second", second))
            for name, values in part["curves"].items()
        },
        "flops": first["flops"] + second["flops"],
        "resumed_at": first["resumed_at"] if resumed is None else first["steps"] + resumed,
    }


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
