"""What makes two recipes the same run: the part of a recipe that changes results, its hash, and its differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from evaluators.judges.settings import VERDICT_KEYS

_SHOWN = ("look_alikes", "optimise_on")  # of an evaluator: what is permitted, and what stands beside it in the report
_LEFT_OUT = ("name", "cluster", "storage", "database", "judges")
_HOW = ("save_every", "concurrency", "keep")  # of a training: how it is carried out
_TUNING = ("tune", "trials", "scheduler", "metric", "holdout")


def identity(dump: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a dumped recipe (`Recipe.model_dump(mode="json")`) that changes results.

    Where the work runs, how much of it, and what is exported at the end do not; the engine and the data type do.
    """
    kept: dict[str, Any] = {key: value for key, value in dump.items() if key not in _LEFT_OUT}
    kept["search"] = {key: value for key, value in dump["search"].items() if key not in ("candidates", "stop")}
    kept["cluster"] = {"evaluators": {"engine": dump["cluster"]["evaluators"]["engine"]}}
    kept["export"] = {"dtype": dump["export"]["dtype"]}
    kept["data"] = {name: _source(source) for name, source in dump["data"].items()}
    # What an earlier search yields is trained on: more candidates there are another model here.
    kept["searches"] = dump.get("searches", {})
    for section in ("experts", "baselines"):
        kept[section] = {name: _training(model) for name, model in dump[section].items()}
    kept["evaluators"] = {name: _evaluator(spec) for name, spec in dump["evaluators"].items()}
    return kept


def _evaluator(spec: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluator, of its judge only what may change a verdict: a limit of money may be raised to go on."""
    spec = {key: value for key, value in spec.items() if key not in _SHOWN}
    judge = spec["options"].get("judge")
    if not isinstance(judge, Mapping):
        return dict(spec)
    kept = {key: value for key, value in judge.items() if key in VERDICT_KEYS}
    if kept.get("identity"):
        kept.pop("endpoint", None)
    return {**spec, "options": {**spec["options"], "judge": kept}}


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "contamination"}


def _training(model: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in model.items() if key not in _HOW}
    if "mix" in kept:
        kept["mix"] = [list(share) for share in kept["mix"].items()]  # the order of a mix decides which rows are drawn
    if kept.get("tune") is None:
        for key in _TUNING:
            kept.pop(key, None)
    return kept


def fingerprint(dump: Mapping[str, Any]) -> str:
    """SHA-256 of `identity(dump)` as canonical JSON (sorted keys), in hex."""
    text = json.dumps(identity(dump), sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted keys at which the identities of two dumped recipes differ, sorted; a missing section counts as one."""
    return tuple(sorted(_differences(identity(old), identity(new), "")))


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            below = f"{path}.{key}" if path else key
            if key not in old or key not in new:
                yield below
            else:
                yield from _differences(old[key], new[key], below)
    elif old != new:
        yield path
