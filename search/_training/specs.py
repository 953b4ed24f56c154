"""From the words of a recipe to the values of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search._recipe import tuning
from search._recipe.training import LoraSpec, Training
from search._training.inputs import local_files
from search._training.model import Tuning
from search.recipe import DataSource, Recipe
from trainers._schema import check_options, options_of
from trainers._types import Lora, Placement, Source, TrainSpec


def spec_of(recipe: Recipe, name: str, base: str, training: Training | None = None) -> TrainSpec:
    """The training of one model.

    Args:
        recipe: the recipe.
        name: of the model.
        base: directory or hub id that it starts from.
        training: its settings; those of the recipe by default.
    """
    entry = training if training is not None else recipe.entry(name)
    assert isinstance(entry, Training)
    steps = entry.steps if isinstance(entry.steps, int) else recipe.steps(name)
    return TrainSpec(
        base=base,
        sources=tuple(
            _source(recipe, data, recipe.data[data], share) for data, share in recipe.mixture(name).items() if share > 0
        ),
        languages=tuple(entry.languages),
        steps=steps,
        batch=entry.batch,
        learning_rate=entry.learning_rate,
        warmup=entry.warmup,
        schedule=entry.schedule,
        weight_decay=entry.weight_decay,
        max_length=entry.max_length,
        dtype=entry.dtype,
        seed=entry.seed,
        lora=_lora(entry.lora),
        options=check_options(entry.trainer, dict(entry.options)),
    )


def placement_of(recipe: Recipe, entry: Training) -> Placement:
    """How a training is laid out: of the recipe's cluster, and how often it saves."""
    trainers = recipe.cluster.trainers
    preset = trainers.deepspeed
    if preset is not None and ("/" in preset or preset.endswith(".json")):
        preset = str((recipe.directory / Path(preset).expanduser()).resolve())
    return Placement(
        zero=trainers.zero,
        micro_batch=trainers.micro_batch,
        save_every=entry.save_every,
        activation_checkpointing=trainers.activation_checkpointing,
        offload=trainers.offload,
        deepspeed=preset,
        report_to=tuple(trainers.report_to),
    )


def tuning_of(recipe: Recipe, entry: Training) -> Tuning | None:
    """The search over a training's settings, None where there is none."""
    if entry.tune is None:
        return None
    loss = entry.metric == tuning.LOSS
    whole = {option.name for option in options_of(entry.trainer) if option.kind == "int"} | set(tuning.WHOLE)
    return Tuning(
        space=tuple((key, _range(values, key in whole)) for key, values in entry.tune.items()),
        trials=entry.trials,
        halving=entry.scheduler == "asha",
        metric=entry.metric,
        direction="min" if loss else recipe.search.objectives[entry.metric],
        concurrency=entry.concurrency,
        holdout=entry.holdout if loss else 0.0,
        keep_all=entry.keep == "all",
    )


def _range(values: tuning.TuneRange | tuple[Any, ...], whole: bool) -> tuple[str, tuple[Any, ...]]:
    if isinstance(values, tuning.TuneRange):
        return "whole" if whole else "range", (values.low, values.high, values.log)
    return "choices", tuple(values)


def _lora(lora: LoraSpec | None) -> Lora | None:
    return None if lora is None else Lora(lora.r, lora.alpha, lora.dropout, tuple(lora.targets))


def _source(recipe: Recipe, name: str, source: DataSource, share: float) -> Source:
    path = recipe.source(source).path
    return Source(name, path, local_files(recipe, source), tuple(source.columns.items()), share, source.split)
