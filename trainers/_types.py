"""What a training is, by value.

A trainer is one public function, named as its file:

    def dpo(spec: TrainSpec, *, out: str, work: str, report: Report, placement: Placement = DEFAULT,
            threads: int | None = None, beta: Annotated[float, Range(0, 10)] = 0.1, ...) -> None

Every keyword after ``threads`` is an option of that trainer, with its bounds beside it: ``bool``,
``Annotated[float, Range(...)]``, ``Annotated[int, Range(...)]``, ``Annotated[str, Choice(...)]`` or
``Annotated[str, Function(...)]``. The module's ``COLUMNS`` says what its data must hold (`Columns`). Nothing else
describes a trainer (``_schema``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from ._errors import InputError

Value = bool | int | float | str
"""What an option of a trainer can be."""


class Range(NamedTuple):
    """Bounds of a number, both valid; they may be infinite. `open_low`: the lower one is not valid itself."""

    low: float
    high: float
    open_low: bool = False


class Choice(NamedTuple):
    """The words that a text may be."""

    options: tuple[str, ...]


class Function(NamedTuple):
    """A text that names a function: ``package.module:function``; `what` says what the function is for."""

    what: str


class Columns(NamedTuple):
    """What the rows of a trainer's data hold, besides ``language``.

    Attributes:
        needs: alternatives; a source must have all columns of one of them, the first that it has is used.
        others: whether further columns are of use (they reach the reward of ``grpo``).
    """

    needs: tuple[tuple[str, ...], ...]
    others: bool = False


@dataclass(frozen=True)
class Source:
    """One data source of a mixture.

    Attributes:
        name: what reports call it.
        path: ``json`` (JSON lines), ``parquet``, ``csv``, or a data set on the hub.
        files: absolute paths or URLs; empty for a hub data set.
        columns: pairs (our name, name in the files); our names are those of the trainer's `Columns` and ``language``,
            and a name that is not listed is its own.
        probability: chance that a sample is drawn from here; those of all sources sum to 1.
        split: split of a hub data set; local files have only ``train``.
        languages: values of the language column to keep, besides those of the training; empty keeps all.
    """

    name: str
    path: str
    files: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    probability: float
    split: str = "train"
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lora:
    """Train low-rank changes of matrices instead of the matrices (PEFT); the result is an adapter directory.

    Attributes:
        r: rank.
        alpha: the change is scaled by alpha / r.
        dropout: share of a layer's inputs left out at random while training.
        targets: endings of the names of the modules; empty: every linear layer but the output.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainSpec:
    """One training by value: everything that the resulting weights depend on, beyond rounding (see `Placement`).

    Attributes:
        base: directory or hub id of the model to start from; also the reference of ``dpo`` and ``grpo``. A directory
            with a LoRA adapter stands for the model that the adapter makes.
        sources: the mixture, in order (order is part of the result).
        languages: values of the language column to keep; empty keeps all.
        steps: optimizer steps.
        batch: sequences per optimizer step, over all workers (pairs in ``dpo``, completions in ``grpo``).
        learning_rate: the highest rate of the schedule.
        warmup: share of the steps, in [0, 1), over which the rate rises.
        schedule: what the rate does after the warm-up; cosine and linear end at 0.
        weight_decay: of AdamW, on matrices only.
        max_length: tokens; what is longer loses its end.
        dtype: of the weights while training and in the checkpoint; bfloat16 keeps float32 masters.
        seed: of the data order, the draws between sources, dropout, and sampled completions.
        lora: None trains all weights.
        options: the trainer's own settings, complete and in the order of its signature: ``_schema.check_options``.
    """

    base: str
    sources: tuple[Source, ...]
    languages: tuple[str, ...] = ()
    steps: int = 60
    batch: int = 64
    learning_rate: float = 5e-4
    warmup: float = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = 0.0
    max_length: int = 1024
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0
    lora: Lora | None = None
    options: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True)
class Placement:
    """How a training is laid out on the machines: the weights do not depend on it beyond rounding.

    Attributes:
        zero: ZeRO stage: 0 shards nothing, 1 the optimizer's state, 2 and the gradients, 3 and the weights.
        micro_batch: sequences per forward pass of one worker; gradients are accumulated over a worker's share of the
            batch. 0: the whole share at once.
        save_every: steps between checkpoints to resume from; 0 means never.
        activation_checkpointing: compute activations again in the backward pass instead of keeping them.
        offload: keep the optimizer's state, and at stage 3 the weights, in the host's memory.
        deepspeed: path of a DeepSpeed configuration in JSON, or a name of ``trainers/presets``, in place of `zero` and
            `offload`; None builds one from them.
        report_to: trackers that transformers reports to: ``tensorboard``, ``wandb``, ``mlflow``.
    """

    zero: int = 2
    micro_batch: int = 0
    save_every: int = 0
    activation_checkpointing: bool = False
    offload: bool = False
    deepspeed: str | None = None
    report_to: tuple[str, ...] = ()


DEFAULT = Placement()
"""The layout of a training that says nothing about it."""


def spec_from_dict(mapping: Mapping[str, Any]) -> TrainSpec:
    """Read back what ``dataclasses.asdict`` made of a spec, also after JSON turned its tuples into lists.

    Raises:
        InputError: a setting that a training does not have.
    """
    values = _known(TrainSpec, "a training", mapping)
    values["languages"] = tuple(values.get("languages", ()))
    values["sources"] = tuple(
        Source(
            **{
                **source,
                "files": tuple(source["files"]),
                "columns": tuple((ours, theirs) for ours, theirs in source["columns"]),
                "languages": tuple(source.get("languages", ())),
            }
        )
        for source in values["sources"]
    )
    values["options"] = tuple((name, value) for name, value in values.get("options", ()))
    if (lora := values.get("lora")) is not None:
        values["lora"] = Lora(**{**_known(Lora, "lora", lora), "targets": tuple(lora.get("targets", ()))})
    return TrainSpec(**values)


def placement_from_dict(mapping: Mapping[str, Any]) -> Placement:
    """Read back what ``dataclasses.asdict`` made of a placement, also after JSON.

    Raises:
        InputError: a setting that a placement does not have.
    """
    values = _known(Placement, "a placement", mapping)
    return Placement(**{**values, "report_to": tuple(values.get("report_to", ()))})


def _known(kind: Any, what: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(mapping) - known)
    if unknown:
        raise InputError(f"{what} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return dict(mapping)
