"""What every trainer needs before its first step: arguments, tokenizer, model, adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ._check import check_lora_targets
from ._errors import InputError
from ._types import Placement, TrainSpec
from ._zero import CLIP, zero_config

ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Workplace:
    """One worker of one training.

    Attributes:
        spec: what is trained; its base is a directory or hub id of a whole model.
        placement: how it is laid out.
        work: directory that the workers share.
        rank: of this worker.
        workers: how many there are.
    """

    spec: TrainSpec
    placement: Placement
    work: Path
    rank: int
    workers: int

    @property
    def micro_batch(self) -> int:
        """Sequences per forward pass of one worker."""
        return self.placement.micro_batch or self.spec.batch // self.workers

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """Keyword arguments that all configurations of TRL share; make it before the model: ZeRO-3 splits that."""
        spec, placement = self.spec, self.placement
        on_cpu = not torch.cuda.is_available()
        return {
            "output_dir": str(self.work),
            "max_steps": spec.steps,
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": spec.batch // self.workers // self.micro_batch,
            "learning_rate": spec.learning_rate,
            "lr_scheduler_type": "constant_with_warmup" if spec.schedule == "constant" else spec.schedule,
            "warmup_steps": round(spec.warmup * spec.steps),
            "weight_decay": spec.weight_decay,
            "max_grad_norm": CLIP,
            "bf16": spec.dtype == "bfloat16",
            "use_cpu": on_cpu,
            "seed": spec.seed % 2**32,
            "deepspeed": zero_config(placement, spec, self.workers),
            "activation_checkpointing": placement.activation_checkpointing,
            "train_sampling_strategy": "sequential",  # the order is already in the rows
            "remove_unused_columns": False,
            "dataloader_pin_memory": not on_cpu,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,  # the filter would hide the loss that must stop the run
            "save_strategy": "steps" if placement.save_every else "no",
            "save_steps": placement.save_every or 1,
            "save_total_limit": 2,  # while the newest is being written, the one before it is still there
            "disable_tqdm": True,
            "report_to": list(placement.report_to) or "none",
            "run_name": self.work.name,
            **changes,
        }

    def tokenizer(self) -> Any:
        """The tokenizer of the base."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.spec.base)

    def model(self) -> Any:
        """The base, ready to be trained.

        Weights that are trained are float32: DeepSpeed rounds them for the passes and keeps the originals.

        Raises:
            InputError: `max_length` is more than the model's positions, a target of LoRA matches nothing.
        """
        from transformers import AutoModelForCausalLM

        lora = self.spec.lora
        dtype = torch.float32 if lora is None else getattr(torch, self.spec.dtype)
        model = AutoModelForCausalLM.from_pretrained(self.spec.base, dtype=dtype)
        if lora is not None and lora.targets:
            check_lora_targets(lora.targets, tuple(name for name, _ in model.named_modules()))
        return model

    def reference(self) -> Any:
        """The base once more, never trained; None where the trained model can switch its adapter off."""
        from transformers import AutoModelForCausalLM

        if self.spec.lora is not None:
            return None
        return AutoModelForCausalLM.from_pretrained(self.spec.base, dtype=getattr(torch, self.spec.dtype))

    def peft(self) -> Any:
        """PEFT's configuration of the adapter, or None."""
        lora = self.spec.lora
        if lora is None:
            return None
        from peft import LoraConfig

        return LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets) if lora.targets else "all-linear",
            task_type="CAUSAL_LM",
        )


def pad_token(tokenizer: Any) -> int:
    """The id to fill batches with; it is masked wherever it is read."""
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(token for token in found if token is not None))


def check_length(spec: TrainSpec) -> None:
    """Refuse sequences that the model has no positions for; reads the base's configuration.

    Raises:
        InputError: naming both lengths.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(spec.base)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"the base {spec.base} cannot be read: {first}") from error
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and spec.max_length > positions:
        raise InputError(
            f"max_length is {spec.max_length} and the model has {positions} positions; lower max_length to {positions}"
        )


def unfolded(spec: TrainSpec, work: Path, rank: int) -> TrainSpec:
    """The spec with a base that is a whole model: an adapter is folded into its own base, once, under `work`.

    Raises:
        InputError: an adapter is to be trained on an adapter.
    """
    if not (Path(spec.base) / ADAPTER).is_file():
        return spec
    if spec.lora is not None:
        raise InputError(
            f"{spec.base} is a LoRA adapter, and a second one on top of it would have no base on disk; "
            "leave lora out here, or start from a whole model"
        )
    from ._checkpoint import atomic_directory
    from ._deepspeed import barrier

    whole = work / "start"
    if rank == 0 and not whole.is_dir():
        from peft import AutoPeftModelForCausalLM
        from transformers import AutoTokenizer

        model = AutoPeftModelForCausalLM.from_pretrained(spec.base, dtype=torch.float32).merge_and_unload()
        with atomic_directory(whole) as temporary:
            model.save_pretrained(temporary)
            AutoTokenizer.from_pretrained(spec.base).save_pretrained(temporary)
    barrier()
    return replace(spec, base=str(whole))


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of the libraries: several workers share one terminal, and `report` says where we are."""
    from datasets import utils as datasets
    from transformers.utils import logging

    bars = (datasets.is_progress_bar_enabled(), logging.is_progress_bar_enabled())
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars[0]:
            datasets.enable_progress_bars()
        if bars[1]:
            logging.enable_progress_bar()
