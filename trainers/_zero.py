"""The DeepSpeed configuration of a training: a shipped preset, or the user's own JSON, checked against the training.

The presets are in ``trainers/presets``. Sizes and rates are "auto" there: they come from the training, and a
configuration of one's own may repeat but not contradict them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ._errors import InputError
from ._types import Placement, TrainSpec

PRESETS = Path(__file__).parent / "presets"
CLIP = 1.0
"""Largest norm of a step's gradient."""


def preset_names() -> tuple[str, ...]:
    """Names that `Placement.deepspeed` can have besides a path, sorted."""
    return tuple(sorted(file.stem for file in PRESETS.glob("*.json")))


def zero_config(placement: Placement, spec: TrainSpec, workers: int = 1) -> dict[str, Any]:
    """DeepSpeed settings; what is "auto" in them is filled in by transformers, the optimizer is torch's AdamW.

    Stage 0 in bfloat16 runs as stage 1, which has the same mathematics: DeepSpeed 0.19.8 would take its unfused
    fp16 optimizer there, whose steps are others (loss 4.140 against 4.104 after 20 steps of the test model, where
    stages 1 to 3 in bfloat16 and all stages in float32 agree to three digits).

    Raises:
        InputError: no such preset or file, no JSON, or keys that contradict the training: each is named.
    """
    name = placement.deepspeed or f"zero{placement.zero}{'-offload' * placement.offload}"
    config = _read(name)
    if placement.deepspeed is not None:
        found = list(_conflicts(config, placement, spec, workers))
        if found:
            raise InputError(f"the DeepSpeed configuration {name} contradicts the training: {'; '.join(found)}")
    # Ours, so that a configuration that only states its ZeRO stage trains like any other.
    defaults = _read("zero0")
    config = {**{key: value for key, value in defaults.items() if key != "zero_optimization"}, **config}
    zero = config.setdefault("zero_optimization", {"stage": 0})
    if spec.dtype == "bfloat16":
        zero["stage"] = max(int(zero.get("stage", 0)), 1)
    if zero.get("stage") == 3:
        zero.setdefault("stage3_gather_16bit_weights_on_model_save", True)
    return config


def _read(name: str) -> dict[str, Any]:
    file = PRESETS / f"{name}.json" if name in preset_names() else Path(name)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"the DeepSpeed configuration {name} cannot be read ({error.strerror}); "
            f"give a JSON file or one of {', '.join(preset_names())}"
        ) from error
    except ValueError as error:
        raise InputError(f"the DeepSpeed configuration {name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"the DeepSpeed configuration {name} must be an object, got {type(found).__name__}")
    return found


def _conflicts(config: Mapping[str, Any], placement: Placement, spec: TrainSpec, workers: int) -> Iterator[str]:
    share = spec.batch // workers
    micro = placement.micro_batch or share
    stated = {
        "train_batch_size": spec.batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": share // max(micro, 1),
        "gradient_clipping": CLIP,
    }
    for key, ours in stated.items():
        if config.get(key, "auto") not in ("auto", ours):
            yield f"{key} is {config[key]} there and {ours:g} here (leave it out, or write auto)"
    for key in ("optimizer", "scheduler"):
        if key in config:
            yield f"{key} is what learning_rate, weight_decay, warmup and schedule say (leave it out)"
    bf16 = _section(config, "bf16").get("enabled", "auto")
    if bf16 not in ("auto", spec.dtype == "bfloat16"):
        yield f"bf16.enabled is {str(bf16).lower()} there and dtype is {spec.dtype} here (write auto)"
    if _section(config, "fp16").get("enabled", False) not in ("auto", False):
        yield f"fp16.enabled is true there and dtype is {spec.dtype} here (leave it out)"
    if "zero_optimization" in config and not isinstance(config["zero_optimization"], dict):
        yield "zero_optimization must be an object"
    elif _section(config, "zero_optimization").get("stage", 0) not in (0, 1, 2, 3):
        yield f"zero_optimization.stage must be 0, 1, 2 or 3, got {config['zero_optimization']['stage']}"
    if config.get("zero_force_ds_cpu_optimizer"):
        yield "zero_force_ds_cpu_optimizer would compile DeepSpeed's optimizer; torch's is used (leave it out)"


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}
