"""Experts and baselines of a recipe: trained by this run, merged, picked, or checkpoints that exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from search._recipe import tuning
from search._recipe.fields import (
    Language,
    Seed,
    Share,
    Text,
    at_least_one,
    number,
    one_of,
    plugin,
    reference,
    refusal,
    shares,
    tuple_of,
    whole,
    whole_number,
)
from search._recipe.models import Section
from search._recipe.starts import KINDS, ExistingExpert, FixedMerge, FrontPick, MergedExpert, MixFrom

__all__ = [
    "Baseline",
    "ExistingExpert",
    "Expert",
    "FixedMerge",
    "FrontPick",
    "LoraSpec",
    "MergedExpert",
    "MixFrom",
    "TrainedBaseline",
    "TrainedExpert",
    "Training",
]


class LoraSpec(Section):
    """Low-rank adapter settings: rank, scale, dropout, modules (none listed: all linear layers)."""

    r: Annotated[int, whole(1, 1024)] = 16
    alpha: Annotated[float, number(0, open_low=True)] = 32.0
    dropout: Share = 0.0
    targets: tuple[Text, ...] = ()


def _start(value: Any) -> str:
    return "<FrontPick>" if isinstance(value, (dict, FrontPick)) else "<text>"


def _mixture(value: Any) -> str:
    is_from = isinstance(value, MixFrom) or (isinstance(value, dict) and isinstance(value.get("from"), str))
    return "<MixFrom>" if is_from else "<mix>"


Shares = Annotated[
    Mapping[Annotated[str, reference("data", "data")], Share],
    AfterValidator(at_least_one),
    AfterValidator(shares),
]


class Training(Section):
    """What a training needs, whatever it is for.

    Attributes:
        trainer: a file of `trainers/`, or "package.module:function".
        from_: the model that it starts from: an expert or baseline of this recipe, or `{front: SEARCH, pick: knee}`, a
            point of one of `searches`; default: the base.
        mix: data name -> its share of the sequences; shares sum to 1. `{from: NAME}` takes the mixture that a remix
            training found.
        languages: rows of other languages are left out; default: the recipe's languages.
        batch: sequences per optimizer step, over all workers.
        learning_rate: peak.
        warmup: share of the steps over which the rate rises from 0; 0 = none.
        schedule: how the rate falls after that; "constant" = it does not.
        weight_decay: AdamW's; 0 = none.
        max_length: tokens per sequence; longer ones are cut.
        seed: of data order and dropout; default: the recipe's seed.
        save_every: optimizer steps between checkpoints that a killed training resumes from; 0 = none.
        dtype: of the trained checkpoint. Tiny models learn better in float32.
        lora: train low-rank changes only; the result is an adapter.
        options: the trainer's own settings, as its signature states them.
        tune: setting -> interval or list of values to search over: `learning_rate`, `batch`, `warmup`, `weight_decay`,
            `steps`, `lora.r`, `lora.alpha`, `lora.dropout`, or an option of the trainer.
        trials: trainings of the search.
        scheduler: "asha" = trials that lag at a quarter or half of their steps are stopped; "fifo" = all end.
        metric: what the best trial is chosen on: `loss` on the held-out share, or an objective of `search`, scored on
            the search split.
        concurrency: trials at the same time at most; 0 = as many as the cluster holds.
        holdout: share of the training rows that `metric: loss` is measured on and no trial is trained on.
        keep: "best" removes the other trials' checkpoints, "all" leaves them in RUN/trials.

    Rate, warm-up, schedule and batch are those of published supervised fine-tuning at 1 to 8 billion parameters (rate
    5e-6 to 1e-5, batch 64 to 128, warm-up 0.03, cosine); `steps` is the one to set for the data at hand.
    """

    trainer: Annotated[str, plugin("trainers")] = "sft"
    from_: (
        Annotated[
            Annotated[Annotated[str, reference("models", "model")], Tag("<text>")]
            | Annotated[FrontPick, Tag("<FrontPick>")],
            Discriminator(_start),
        ]
        | None
    ) = Field(None, alias="from")
    mix: Annotated[
        Annotated[Shares, Tag("<mix>")] | Annotated[MixFrom, Tag("<MixFrom>")],
        Discriminator(_mixture),
    ]
    languages: Annotated[tuple[Annotated[Language, reference("languages", "language")], ...], tuple_of()] = ()
    batch: Annotated[int, whole(1, 65536, "write a number of sequences such as 64")] = 64
    learning_rate: Annotated[float, number(0, 0.5, "write a rate such as 1.0e-5", open_low=True)] = 1e-5
    warmup: Annotated[float, number(0, 0.9, "write a share of the steps such as 0.03")] = 0.03
    schedule: Annotated[Literal["cosine", "linear", "constant"], one_of("cosine", "linear", "constant")] = "cosine"
    weight_decay: Annotated[float, number(0, 1)] = 0.0
    max_length: Annotated[int, whole(8, 2**20, "write a number of tokens such as 2048")] = 2048
    seed: Seed = 0
    save_every: Annotated[int, whole(0, None, "write a number of steps, 0 for none")] = 100
    dtype: Annotated[Literal["float32", "bfloat16"], one_of("float32", "bfloat16")] = "bfloat16"
    lora: LoraSpec | None = None
    options: Mapping[str, Any] = {}
    tune: Annotated[Mapping[str, tuning.Tunable], AfterValidator(at_least_one)] | None = None
    trials: Annotated[int, whole(1, 10**4, "write a number of trainings")] = tuning.TRIALS
    scheduler: Annotated[Literal["asha", "fifo"], one_of("asha", "fifo")] = "asha"
    metric: Text = tuning.LOSS
    concurrency: Annotated[int, whole(0, 10**4, "write a number of trials, 0 for as many as fit")] = 0
    holdout: Annotated[float, number(0, 0.5, "write a share such as 0.1", open_low=True)] = tuning.HOLDOUT
    keep: Annotated[Literal["best", "all"], one_of("best", "all")] = "best"
    steps: int | Literal["match"] = 500


def _steps(value: Any, *, match: bool) -> Any:
    if value == "match" and not match:
        raise refusal("only a baseline can match the compute of others", "write a number of steps", value="'match'")
    if isinstance(value, str) and match and value != "match":
        raise refusal("must be a whole number or match", "write `steps: match` or a number of steps")
    if value == "match":
        return value
    return whole_number(value, 1, None, "write a number of steps such as 500")


class TrainedExpert(Training):
    """An expert made by this run. `steps`: optimizer steps."""

    steps: Annotated[int, BeforeValidator(lambda value: _steps(value, match=False))] = 500


class TrainedBaseline(Training):
    """A model that is trained, scored and never merged.

    `steps`: optimizer steps, or "match": as many as cost the training compute of all trained experts of the search
    together, so that merging and mixing are compared at equal cost (`search._recipe.compute`).
    """

    steps: Annotated[int | Literal["match"], BeforeValidator(lambda value: _steps(value, match=True))] = "match"


def _kind_of(trained: str) -> Discriminator:
    def kind(value: Any) -> str:
        if isinstance(value, dict):
            return next((tag for key, tag in KINDS.items() if key in value), f"<{trained}>")
        given = isinstance(value, (ExistingExpert, MergedExpert, FrontPick))
        return f"<{type(value).__name__}>" if given else f"<{trained}>"

    return Discriminator(kind)


_Given = (
    Annotated[ExistingExpert, Tag("<ExistingExpert>")]
    | Annotated[MergedExpert, Tag("<MergedExpert>")]
    | Annotated[FrontPick, Tag("<FrontPick>")]
)
Expert = Annotated[Annotated[TrainedExpert, Tag("<TrainedExpert>")] | _Given, _kind_of("TrainedExpert")]
Baseline = Annotated[Annotated[TrainedBaseline, Tag("<TrainedBaseline>")] | _Given, _kind_of("TrainedBaseline")]
