"""Supervised fine-tuning: TRL's SFTTrainer on DeepSpeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._built import Built
from ._run import run
from ._schema import Report
from ._types import DEFAULT, Columns, Placement, TrainSpec

if TYPE_CHECKING:
    from ._workplace import Workplace

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
    """Train on the responses of `spec.sources`; the loss is the mean over all trained tokens of a step.

    Workers find each other by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; without these the training runs in
    this process alone. The result does not depend on `placement` or the number of workers beyond rounding: the
    same samples make up every step.

    `out` receives safetensors in `spec.dtype` under the names of the base, the tokenizer and the generation config; or,
    with `spec.lora`, an adapter as PEFT writes it. ``training.json`` in it says what happened (docs/trainers.md).

    Args:
        spec: what to train.
        out: result directory, complete or absent; when it is complete nothing is done.
        work: directory for checkpoints, on storage that all workers share; a checkpoint there is continued.
        report: called on every worker after every step with ``step``, ``steps``, ``loss`` (nats per trained token),
            ``learning_rate`` and ``tokens_per_s`` (over all workers, padding excluded).
        placement: how it is laid out on the workers.
        threads: torch threads of this worker on CPU; OMP_NUM_THREADS by default, or one.

    Raises:
        InputError: the spec, the layout, the data or `out` cannot be used.
        TrainingError: the loss is no longer finite, or the disk is full.
    """
    run("sft", spec, placement, build, out=out, work=work, report=report, threads=threads)


def build(at: Workplace) -> Built:
    """The trainer of one worker."""
    from trl import SFTConfig, SFTTrainer

    from ._data import mixture
    from ._encode import completions
    from ._tally import CompletionCollator, counting
    from ._workplace import pad_token

    arguments = SFTConfig(
        **at.arguments(),
        max_length=at.spec.max_length,
        shuffle_dataset=False,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are encoded when read
        completion_only_loss=True,
    )
    tokenizer = at.tokenizer()
    rows, groups, _ = mixture(at.spec, COLUMNS)
    trainer = counting(SFTTrainer)(
        model=at.model(),
        args=arguments,
        train_dataset=rows.with_transform(completions(tokenizer, at.spec.max_length)),
        data_collator=CompletionCollator(pad_token(tokenizer), len(groups)),
        processing_class=tokenizer,
        peft_config=at.peft(),
    )
    return Built(trainer, groups)
