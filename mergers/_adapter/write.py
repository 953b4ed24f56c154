"""Writing an adapter as PEFT reads it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from re import escape
from typing import TYPE_CHECKING, TypeVar

from .._checkpoint.mapped import write_file
from .._checkpoint.output import new_directory
from .._checkpoint.safetensors import Slot
from .._errors import InputError
from .adapter import Adapter, Change, Lazy, LowRank
from .config import CONFIG
from .open import BASE_LAYER, EMBEDDING_A, EMBEDDING_B, PREFIX, TOKENS, WEIGHTS, A, B

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TYPES = ("float32", "bfloat16", "float16")


def write_adapter(adapter: Adapter, out: Path, *, dtype: str, base_name: str | None = None) -> None:
    """Write `adapter` as a directory that PEFT's `from_pretrained` loads: complete, or not there at all.

    Every module is named in full in `target_modules`, so that nothing else is wrapped. Where ranks or scalings differ,
    `rank_pattern` and `alpha_pattern` say so. Of an adapter that `combine` made alpha equals rank everywhere.

    Args:
        adapter: no DoRA adapter.
        out: new directory; must not exist, or be empty.
        dtype: of the tensors: `float32`, `bfloat16` or `float16`. Float32 keeps a combination exact; a narrower type
            rounds A and B, each entry once.
        base_name: of the base, for PEFT's configuration; the adapter's own if None.

    Raises:
        InputError: `out` is taken; another type; too little disk; a value that is not finite or beyond float16; a DoRA
            adapter; layouts that one adapter cannot hold.
    """
    import torch

    if dtype not in TYPES:
        raise InputError(f"adapter type must be one of {', '.join(TYPES)}, got '{dtype}'; choose one of them")
    for name in adapter.changes:
        adapter.refuse_magnitude(name)
    config = json.dumps(_config(adapter, base_name), indent=2) + "\n"
    lazies = dict(_tensors(adapter))
    slots = [Slot(key, dtype, lazy.shape) for key, lazy in lazies.items()]

    def fill(slot: Slot, place: Tensor) -> None:
        place.copy_(lazies[slot.name].read())
        if not torch.isfinite(place).all():
            raise InputError(f"{slot.name} of the adapter is not finite in {dtype}; write float32, or mend the inputs")

    with new_directory(Path(out)) as folder:
        write_file(folder / WEIGHTS, slots, fill)
        (folder / CONFIG).write_text(config, encoding="utf-8")


def _tensors(adapter: Adapter) -> Iterator[tuple[str, Lazy]]:
    for name, change in adapter.changes.items():
        module, leaf = name.rsplit(".", 1)
        if change.low_rank is not None:
            embedding = change.low_rank.layout == "embedding"
            yield PREFIX + module + (EMBEDDING_A if embedding else A), change.low_rank.a
            yield PREFIX + module + (EMBEDDING_B if embedding else B), change.low_rank.b
        if change.rows is not None:
            yield PREFIX + module + TOKENS, change.rows.values
        if change.replacement is not None:
            wrapped = _low_rank(adapter, module) is not None
            yield PREFIX + (module + BASE_LAYER + leaf if wrapped else name), change.replacement


def _config(adapter: Adapter, base_name: str | None) -> dict[str, object]:
    low = _by_module(adapter, lambda change: change.low_rank)
    if {factors.layout for factors in low.values()} >= {"linear", "transposed"}:
        raise InputError(f"{adapter.name} mixes plain and fan_in_fan_out layers; write a full model")
    rows = _by_module(adapter, lambda change: change.rows)
    whole = [name.rsplit(".", 1) for name, change in adapter.changes.items() if change.replacement is not None]
    saved = dict.fromkeys(module for module, leaf in whole if leaf != "bias" and module not in low)
    biases = [module for module, leaf in whole if leaf == "bias" and module not in saved]
    ranks = {module: factors.rank for module, factors in low.items()}
    alphas = {module: _plain(factors.scale * factors.rank) for module, factors in low.items()}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": adapter.task_type,
        "base_model_name_or_path": adapter.base_name if base_name is None else base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {escape(module): value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {escape(module): value for module, value in alphas.items() if value != alpha},
        "use_rslora": False,
        "use_dora": False,
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "fan_in_fan_out": any(factors.layout == "transposed" for factors in low.values()),
        "target_modules": list(low),
        "modules_to_save": list(saved) or None,
        "bias": "none" if not biases else "lora_only" if set(biases) <= set(low) else "all",
        "trainable_token_indices": {module: list(part.indices) for module, part in rows.items()} or None,
    }


def _by_module(adapter: Adapter, part: Callable[[Change], T | None]) -> dict[str, T]:
    found = ((name.rsplit(".", 1)[0], part(change)) for name, change in adapter.changes.items())
    return {module: one for module, one in found if one is not None}


def _low_rank(adapter: Adapter, module: str) -> LowRank | None:
    change = adapter.changes.get(f"{module}.weight")
    return change.low_rank if change else None


def _commonest(values: Iterable[float]) -> float:
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else 1  # PEFT wants a rank even where nothing has one


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number
