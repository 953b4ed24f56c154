"""Supervised fine-tuning: TRL's SFTTrainer on DeepSpeed."""

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._check import check_placement, check_spec
from ._schema import Report
from ._types import DEFAULT, Columns, Placement, TrainSpec

COLUMNS = Columns((("prompt", "response"), ("messages",)))


def sft(
    spec: TrainSpec,
    *,
    out: str,
    work: str,
    report: Report,
    placement: Placement = DEFAULT,
    threads: int | None = None,
) -> None:
    """Train `spec.base` on the completions of `spec.sources`; the body of every worker.

    Workers find each other by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; without these the training runs in
    this process alone. The result does not depend on the number of workers or the ZeRO stage beyond rounding: the
    same samples make up every step, and the loss is the mean over all trained tokens of a step.

    `out` receives safetensors in `spec.dtype` under the names of the base, the tokenizer, the generation config and
    ``training.json``: the spec, ``loss`` and ``learning_rate`` of every step, ``tokens`` by source, ``seconds``,
    ``resumed_at`` (step, or null) and ``peak_rss_bytes`` of the largest worker.

    Args:
        spec: what to train.
        out: result directory, complete or absent; when it is complete nothing is done.
        work: directory for checkpoints, on storage that all workers share; a checkpoint there is continued.
        report: called on every worker after every step with ``step``, ``steps``, ``loss`` (nats per trained token),
            ``learning_rate`` and ``tokens_per_s`` (over all workers, padding excluded).
        placement: how it is laid out on the workers.
        threads: torch threads of this worker on CPU; OMP_NUM_THREADS by default, or one.

    Raises:
        InputError: the spec, the data or `out` cannot be used.
        TrainingError: the loss is no longer finite.
    """
    from ._checkpoint import is_complete

    check_spec(spec)
    check_placement(placement, spec.batch)
    if is_complete(Path(out)):
        return
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", "1")))
    from ._deepspeed import process_group

    with process_group() as (rank, workers), _quiet():
        check_placement(placement, spec.batch, workers)
        _train(spec, placement, Path(out), Path(work), report, rank, workers)


def _train(
    spec: TrainSpec, placement: Placement, out: Path, work: Path, report: Report, rank: int, workers: int
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    from ._checkpoint import last_complete
    from ._data import training_rows
    from ._encode import TALLY, TallyingCollator, encoder
    from ._hooks import CountingTrainer, Progress

    arguments = _arguments(spec, placement, work, workers)  # before the model: ZeRO-3 splits it while it loads
    tokenizer = AutoTokenizer.from_pretrained(spec.base)
    pad = next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)
    rows = training_rows(spec).with_transform(encoder(tokenizer, spec.max_length))
    model = AutoModelForCausalLM.from_pretrained(spec.base, dtype=torch.float32)
    resumed = last_complete(work, spec, placement, workers)
    progress = Progress(spec, placement, workers, report, resumed[1]["seconds"] if resumed else 0.0)
    trainer = CountingTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=TallyingCollator(pad, len(spec.sources)),
        processing_class=tokenizer,
        callbacks=[progress],
    )
    for console in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(console)
    progress.trainer = trainer
    trainer.counted = torch.zeros(len(spec.sources), len(TALLY), dtype=torch.int64)
    if resumed and rank == 0:
        trainer.counted += torch.tensor(resumed[1]["counted"])
    trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    record = _record(spec, trainer, progress, resumed, workers)
    _save(trainer, tokenizer, spec, out, record, rank)


@contextmanager
def _quiet() -> Iterator[None]:
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


def _arguments(spec: TrainSpec, placement: Placement, work: Path, workers: int) -> Any:
    import torch
    from trl import SFTConfig

    from ._deepspeed import zero_config

    on_cpu = not torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(work),
        max_steps=spec.steps,
        per_device_train_batch_size=spec.batch // workers,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="constant_with_warmup" if spec.schedule == "constant" else spec.schedule,
        warmup_steps=round(spec.warmup * spec.steps),
        weight_decay=spec.weight_decay,
        max_length=spec.max_length,
        bf16=spec.dtype == "bfloat16",
        use_cpu=on_cpu,
        seed=spec.seed % 2**32,
        deepspeed=zero_config(placement.zero, spec.dtype),
        train_sampling_strategy="sequential",  # the order is already in the rows
        shuffle_dataset=False,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are encoded when read
        remove_unused_columns=False,
        completion_only_loss=True,
        activation_checkpointing=False,
        dataloader_pin_memory=not on_cpu,
        logging_steps=1,
        logging_nan_inf_filter=False,  # the filter would hide the loss that must stop the run
        save_strategy="steps" if placement.save_every else "no",
        save_steps=placement.save_every or 1,
        save_total_limit=2,  # while the newest is being written, the one before it is still there
        disable_tqdm=True,
        report_to="none",
    )


def _record(spec: TrainSpec, trainer: Any, progress: Any, resumed: Any, workers: int) -> dict[str, Any]:
    from dataclasses import asdict

    from ._deepspeed import max_over_workers, sum_over_workers
    from ._encode import TALLY

    counted = sum_over_workers(trainer.counted).tolist()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max_over_workers(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "trainer": "sft",
        "spec": asdict(spec),
        "steps": trainer.state.global_step,
        "step": [entry["step"] for entry in logs],
        "loss": [entry["loss"] for entry in logs],
        "learning_rate": [entry["learning_rate"] for entry in logs],
        "tokens": {
            source.name: dict(zip(TALLY, counts, strict=True))
            for source, counts in zip(spec.sources, counted, strict=True)
        },
        "seconds": progress.seconds,
        "resumed_at": resumed[1]["step"] if resumed else None,
        "workers": workers,
        "peak_rss_bytes": int(peak),
    }


def _save(trainer: Any, tokenizer: Any, spec: TrainSpec, out: Path, record: dict[str, Any], rank: int) -> None:
    import torch

    from ._checkpoint import RECORD, atomic_directory

    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # on all workers: ZeRO-3 gathers here
    if rank != 0:
        return
    dtype = getattr(torch, spec.dtype)
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    # A tied head comes back as a tensor of its own; the base has it once, and so must every expert.
    once = {name for name, _ in model.named_parameters()}
    twice = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in state.items()
        if name not in twice
    }
    model.config.dtype = dtype
    model.config.use_cache = True  # the Trainer switches it off for training
    for mark in ("is_local", "local_files_only"):  # how it was loaded here is nobody else's concern
        tokenizer.init_kwargs.pop(mark, None)
    with atomic_directory(out) as temporary:
        model.save_pretrained(temporary, state_dict=state)
        tokenizer.save_pretrained(temporary)
        (temporary / RECORD).write_text(json.dumps(record, indent=1) + "\n")
