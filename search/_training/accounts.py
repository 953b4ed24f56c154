"""What the models of a run cost and were trained on, from what the trainings left about themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search._training.model import Model, needed, record_of
from search._training.promote import TUNING
from search.recipe import Recipe

COSTS = ("seconds", "cpu_seconds", "gpu_seconds", "flops", "peak_rss_bytes", "peak_device_bytes", "workers")


def trainings(known: Sequence[Model]) -> dict[str, dict[str, Any]]:
    """Name -> curves and costs of every training, steps on the way included.

    `tokens` are those trained on, padding excluded; `flops` are estimated (`trainers._costs.flops`), those of a tuned
    model are of the trial that became it.
    """
    found = {}
    for model in known:
        record = record_of(model)
        if record is None:
            continue
        found[model.name] = {
            "kind": model.kind,
            "trainer": model.trainer,
            "steps": record.get("step") or list(range(1, len(record["loss"]) + 1)),
            "loss": record["loss"],
            "curves": record.get("curves", {}),
            "tokens": sum(source["tokens"] for source in record["tokens"].values()),
            **{name: record.get(name) for name in COSTS},
        }
    return found


def tokens(known: Sequence[Model]) -> list[dict[str, Any]]:
    """What each model was trained on: samples and tokens, by data (the objective) and by language."""
    rows = []
    for model in known:
        record = record_of(model)
        for what, key in (("data", "tokens"), ("language", "languages")):
            for name, counts in ((record or {}).get(key) or {}).items():
                rows.append({"model": model.name, "by": what, "name": name, **counts})
    return rows


def tunings(known: Sequence[Model]) -> dict[str, dict[str, Any]]:
    """Name -> what was tried for a tuned model (`search._training.promote`)."""
    found = {}
    for model in known:
        file = model.path / TUNING
        if model.tuning is not None and file.is_file():
            found[model.name] = json.loads(file.read_text(encoding="utf-8"))
    return found


def spent(recipe: Recipe, known: Sequence[Model]) -> dict[str, float | None]:
    """Training FLOPs of every model with all that it is made of, each training once; under "" those of a merge.

    None where a checkpoint was given whose training nobody here knows. The base counts 0: it is everybody's start.
    """
    found: dict[str, float | None] = {}
    for model in known:
        if model.kind != "step":
            found[model.name] = _flops(known, [model.name])
    found[""] = _flops(known, recipe.search.experts)
    return found


def matches(recipe: Recipe, known: Sequence[Model]) -> list[dict[str, Any]]:
    """For each matched baseline, what it came to: its training FLOPs over those of the experts of the search."""
    merged = _flops(known, recipe.search.experts)
    rows = []
    for name, entry in recipe.baselines.items():
        if getattr(entry, "steps", None) == "match":
            own = _flops(known, [name])
            if own and merged:
                rows.append({"name": name, "flops": own, "experts": merged, "ratio": own / merged})
    return rows


def _flops(known: Sequence[Model], names: Iterable[str]) -> float | None:
    used = needed(known, names)
    if any(model.made == "given" and model.kind != "base" for model in used):
        return None
    records: list[Mapping[str, Any]] = [record for model in used if (record := record_of(model)) is not None]
    return math.fsum(record.get("flops") or 0.0 for record in records)
