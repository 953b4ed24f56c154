"""What a training is, by value."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ._errors import InputError


@dataclass(frozen=True)
class Source:
    """One data source of a mixture.

    Attributes:
        name: what reports call it.
        path: ``json`` (JSON lines), ``parquet``, ``csv``, or a data set on the hub.
        files: absolute paths or URLs; empty for a hub data set.
        columns: pairs (our name, name in the files); our names are ``prompt``, ``response`` and ``language``,
            and a name that is not listed is its own.
        probability: chance that a sample is drawn from here; those of all sources sum to 1.
        split: split of a hub data set; local files have only ``train``.
    """

    name: str
    path: str
    files: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    probability: float
    split: str = "train"


@dataclass(frozen=True)
class TrainSpec:
    """One training by value: everything that the resulting weights depend on, and ``zero``, which they do not.

    Attributes:
        base: directory or hub id of the model to start from.
        sources: the mixture, in order (order is part of the result).
        languages: values of the language column to keep; empty keeps all.
        steps: optimizer steps.
        batch: sequences per optimizer step, over all workers.
        learning_rate: the highest rate of the schedule.
        warmup: share of the steps, in [0, 1), over which the rate rises.
        schedule: what the rate does after the warm-up; cosine and linear end at 0.
        weight_decay: of AdamW, on matrices only.
        max_length: tokens; what is longer loses its end.
        dtype: of the weights while training and in the checkpoint; bfloat16 keeps float32 masters.
        zero: ZeRO stage, 0 to 3.
        seed: of the data order, the draws between sources, and dropout.
        save_every: steps between checkpoints to resume from; 0 means never.
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
    zero: int = 2
    seed: int = 0
    save_every: int = 0


def spec_from_dict(mapping: Mapping[str, Any]) -> TrainSpec:
    """Read back what ``dataclasses.asdict`` made, also after JSON turned its tuples into lists."""
    known = {field.name for field in fields(TrainSpec)}
    unknown = sorted(set(mapping) - known)
    if unknown:
        raise InputError(f"a training has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    values = dict(mapping)
    values["languages"] = tuple(values.get("languages", ()))
    values["sources"] = tuple(
        Source(
            **{
                **source,
                "files": tuple(source["files"]),
                "columns": tuple((ours, theirs) for ours, theirs in source["columns"]),
            }
        )
        for source in values["sources"]
    )
    return TrainSpec(**values)


def check_spec(spec: TrainSpec, workers: int = 1) -> None:
    """Refuse settings that cannot train; reads the spec and the names of local files, loads nothing.

    Raises:
        InputError: naming the setting, its value and the remedy.
    """
    rules = (
        (spec.steps >= 1, f"steps must be at least 1, got {spec.steps}"),
        (spec.batch >= 1, f"batch must be at least 1, got {spec.batch}"),
        (
            spec.batch % workers == 0,
            f"batch {spec.batch} does not divide by {workers} workers; make it a multiple",
        ),
        (0 < spec.learning_rate < 1, f"learning_rate must be between 0 and 1, got {spec.learning_rate}"),
        (0 <= spec.warmup < 1, f"warmup is a share of the steps in [0, 1), got {spec.warmup}"),
        (
            spec.schedule in ("cosine", "linear", "constant"),
            f"schedule must be cosine, linear or constant, got {spec.schedule!r}",
        ),
        (spec.weight_decay >= 0, f"weight_decay must not be negative, got {spec.weight_decay}"),
        (spec.max_length >= 2, f"max_length must be at least 2 tokens, got {spec.max_length}"),
        (spec.dtype in ("float32", "bfloat16"), f"dtype must be float32 or bfloat16, got {spec.dtype!r}"),
        (spec.zero in (0, 1, 2, 3), f"zero must be 0, 1, 2 or 3, got {spec.zero}"),
        (spec.save_every >= 0, f"save_every must not be negative, got {spec.save_every}; 0 means never"),
        (bool(spec.sources), "the mixture is empty; name at least one data source"),
    )
    for holds, message in rules:
        if not holds:
            raise InputError(message)
    for source in spec.sources:
        if not 0 < source.probability <= 1:
            raise InputError(
                f"the probability of {source.name!r} must be above 0 and at most 1, got {source.probability}"
            )
        for file in source.files:
            if "://" not in file and not Path(file).is_file():
                raise InputError(f"data source {source.name!r}: there is no file {file}")
    total = sum(source.probability for source in spec.sources)
    if abs(total - 1) > 1e-6:
        shares = ", ".join(f"{source.name} {source.probability:g}" for source in spec.sources)
        raise InputError(f"the probabilities of a mixture must sum to 1, got {total:g} ({shares})")
