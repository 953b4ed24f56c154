"""Preference training: TRL's DPOTrainer on DeepSpeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from ._built import Built
from ._run import run, with_options
from ._schema import Report
from ._types import DEFAULT, Choice, Columns, Placement, Range, TrainSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._workplace import Workplace

COLUMNS = Columns((("prompt", "chosen", "rejected"),))
# Those of TRL whose loss is a mean over pairs, so that it does not depend on how a batch is cut.
LOSSES = ("sigmoid", "hinge", "ipo", "robust", "nca_pair", "apo_zero", "apo_down", "discopop", "sppo_hard")


def dpo(
    spec: TrainSpec,
    *,
    out: str,
    work: str,
    report: Report,
    placement: Placement = DEFAULT,
    threads: int | None = None,
    beta: Annotated[float, Range(0, 10, open_low=True)] = 0.1,
    loss_type: Annotated[str, Choice(LOSSES)] = "sigmoid",
    label_smoothing: Annotated[float, Range(0, 0.49)] = 0.0,
) -> None:
    """Train on pairs of answers, against the model that it starts from (Rafailov et al. 2023, arXiv 2305.18290).

    A step sees `spec.batch` pairs. The reference is the start model: a second copy, in `spec.dtype`, cut over the
    workers at ZeRO stage 3 and whole on each below; with LoRA it is the model with its adapter switched off. Its
    log-probabilities are computed beside every step, so nothing is cached between workers. Dropout is off.

    Args:
        spec: what to train; ``loss`` in its reports is that of a pair.
        out: see ``trainers.sft``.
        work: see ``trainers.sft``.
        report: see ``trainers.sft``.
        placement: see ``trainers.sft``.
        threads: see ``trainers.sft``.
        beta: how strongly the result is held to the reference; less is looser.
        loss_type: name of the loss, as in TRL's ``DPOConfig``.
        label_smoothing: chance that a pair is labelled the wrong way round, for ``sigmoid`` and ``robust``.

    Raises:
        InputError: see ``trainers.sft``.
        TrainingError: see ``trainers.sft``.
    """
    spec = with_options(spec, beta=beta, loss_type=loss_type, label_smoothing=label_smoothing)
    run("dpo", spec, placement, _build, out=out, work=work, report=report, threads=threads)


def _build(at: Workplace) -> Built:
    from trl import DPOConfig, DPOTrainer

    from ._data import mixture
    from ._tally import PreferenceCollator, counting
    from ._workplace import pad_token

    options: dict[str, Any] = dict(at.spec.options)
    arguments = DPOConfig(
        **at.arguments(),
        max_length=at.spec.max_length,
        beta=options["beta"],
        loss_type=[options["loss_type"]],
        label_smoothing=options["label_smoothing"],
    )
    tokenizer = at.tokenizer()
    rows, groups, _ = mixture(at.spec, COLUMNS)

    class Pairs(counting(DPOTrainer)):  # type: ignore[misc]  # the base is made here
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # rows are encoded when read; TRL would drop long ones, and with them the order

    trainer = Pairs(
        model=at.model(),
        ref_model=at.reference(),
        args=arguments,
        train_dataset=rows.with_transform(_pairs(tokenizer)),
        data_collator=PreferenceCollator(pad_token(tokenizer), len(groups), at.spec.max_length),
        processing_class=tokenizer,
        peft_config=at.peft(),
    )
    return Built(trainer, groups, more_forward=1.0)


def _pairs(tokenizer: Any) -> Any:
    """A transform of rows (prompt, chosen, rejected, group) to ids, as TRL prepares them (a test compares them)."""
    from ._encode import common_prefix, joined

    def encode(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        heads, chosen = joined(tokenizer, rows["prompt"], rows["chosen"])
        _, rejected = joined(tokenizer, rows["prompt"], rows["rejected"])
        shared = [
            min(common_prefix(head, good), common_prefix(head, bad))
            for head, good, bad in zip(heads, chosen, rejected, strict=True)
        ]
        return {
            "prompt_ids": [head[:length] for head, length in zip(heads, shared, strict=True)],
            "chosen_ids": [ids[length:] for ids, length in zip(chosen, shared, strict=True)],
            "rejected_ids": [ids[length:] for ids, length in zip(rejected, shared, strict=True)],
            "group": list(rows["group"]),
        }

    return encode
