"""One consolidated safetensors checkpoint, or one adapter, whatever the ZeRO stage and the number of workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ._checkpoint import RECORD, atomic_directory
from ._workplace import Workplace


def save(at: Workplace, base: str, trainer: Any, tokenizer: Any, out: Path, record: Mapping[str, Any]) -> None:
    """Write `out`, complete or not at all; call on every worker.

    Args:
        at: this worker.
        base: what an adapter's configuration names as its base.
        trainer: of transformers, after its last step.
        tokenizer: goes along.
        out: directory that does not exist.
        record: becomes ``training.json``.
    """
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    state = _adapter(model) if at.spec.lora is not None else _whole(trainer, model)
    if at.rank != 0:
        return
    dtype = getattr(torch, at.spec.dtype)
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    if at.spec.lora is not None:
        for config in model.peft_config.values():
            config.base_model_name_or_path = base
    else:
        model.config.dtype = dtype
        model.config.use_cache = True  # the Trainer switches it off for training
    for mark in ("is_local", "local_files_only"):  # how it was loaded here is nobody else's concern
        tokenizer.init_kwargs.pop(mark, None)
    with atomic_directory(out) as temporary:
        model.save_pretrained(temporary, state_dict=state)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        (temporary / RECORD).write_text(json.dumps(record, indent=1) + "\n")


def _whole(trainer: Any, model: Any) -> dict[str, torch.Tensor]:
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # on all workers: ZeRO-3 gathers here
    # A tied head comes back as a tensor of its own; the base has it once, and so must every expert.
    once = {name for name, _ in model.named_parameters()}
    twice = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once
    return {name: value for name, value in (state or {}).items() if name not in twice}


def _adapter(model: Any) -> dict[str, torch.Tensor]:
    """The trained tensors alone: gathering the base too would take its whole size on one worker."""
    import deepspeed

    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    sharded = [parameter for _, parameter in trained if hasattr(parameter, "ds_id")]
    with deepspeed.zero.GatheredParameters(sharded, enabled=bool(sharded)):
        return {name: parameter.detach().cpu().clone() for name, parameter in trained}
