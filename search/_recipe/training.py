"""Experts and baselines of a recipe: trained by this run, or checkpoints that exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from search._recipe.fields import (
    Language,
    Seed,
    Share,
    Text,
    at_least_one,
    flag,
    later,
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

TUNABLE = ("learning_rate", "batch", "warmup", "weight_decay", "steps")


class Lora(Section):
    """Low-rank adapter settings: rank, scale, dropout, modules (none listed: all linear layers)."""

    r: Annotated[int, whole(1, 1024)] = 16
    alpha: Annotated[float, number(0, open_low=True)] = 32.0
    dropout: Share = 0.0
    targets: tuple[Text, ...] = ()


class FrontPick(Section):
    """A pick of a search as the start of a training."""

    front: Text
    pick: Text


class TuneRange(Section):
    """An interval to tune a setting over; `log` draws the logarithm uniformly."""

    low: Annotated[float, number(0)]
    high: Annotated[float, number(0)]
    log: Annotated[bool, flag()] = False

    @model_validator(mode="after")
    def _ordered(self) -> TuneRange:
        if self.low >= self.high or (self.log and self.low == 0):
            raise refusal("needs low < high, and low > 0 if log", "change low or high")
        return self


class Training(Section):
    """What a training needs, whatever it is for.

    Attributes:
        trainer: a file of `trainers/`.
        mix: data name -> its share of the sequences; shares sum to 1.
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
        lora, from_, tune, trials, scheduler: not available yet.

    Rate, warm-up, schedule and batch are those of published supervised fine-tuning at 1 to 8 billion parameters (rate
    5e-6 to 1e-5, batch 64 to 128, warm-up 0.03, cosine); `steps` is the one to set for the data at hand.
    """

    trainer: Annotated[str, plugin("trainers", ("dpo", "grpo", "remix"), outside=False)] = "sft"
    mix: Annotated[
        Mapping[Annotated[str, reference("data", "data")], Share],
        AfterValidator(at_least_one),
        AfterValidator(shares),
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
    lora: Annotated[Lora | None, later("LoRA experts")] = None
    from_: Annotated[
        Annotated[
            Annotated[str, reference("experts", "expert"), Tag("<text>")] | Annotated[FrontPick, Tag("<FrontPick>")],
            Discriminator(lambda value: "<FrontPick>" if isinstance(value, dict) else "<text>"),
        ]
        | None,
        later("training from another expert"),
    ] = Field(None, alias="from")
    tune: Annotated[
        Mapping[
            Annotated[str, one_of(*TUNABLE)],
            Annotated[
                Annotated[TuneRange, Tag("<TuneRange>")]
                | Annotated[tuple[Annotated[float, number(0)], ...], tuple_of(), Tag("<list>")],
                Discriminator(lambda value: "<list>" if isinstance(value, (list, tuple)) else "<TuneRange>"),
            ],
        ]
        | None,
        later("tuning of training settings"),
    ] = None
    trials: Annotated[Annotated[int, whole(1)] | None, later("tuning of training settings")] = None
    scheduler: Annotated[Annotated[str, one_of("asha", "fifo")] | None, later("tuning of training settings")] = None


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

    `steps`: optimizer steps, or "match": as many as see the sequences that all trained experts of the search see
    together, so that merging and mixing are compared at equal training compute (`Recipe.steps`).
    """

    steps: Annotated[int | Literal["match"], BeforeValidator(lambda value: _steps(value, match=True))] = "match"


class ExistingExpert(Section):
    """A checkpoint that exists: a directory relative to the recipe, or a hub id."""

    path: Text


def _kind_of(trained: str) -> Discriminator:
    return Discriminator(
        lambda value: (
            "<ExistingExpert>"
            if isinstance(value, ExistingExpert) or "path" in (value if isinstance(value, dict) else ())
            else f"<{trained}>"
        )
    )


Expert = Annotated[
    Annotated[TrainedExpert, Tag("<TrainedExpert>")] | Annotated[ExistingExpert, Tag("<ExistingExpert>")],
    _kind_of("TrainedExpert"),
]
Baseline = Annotated[
    Annotated[TrainedBaseline, Tag("<TrainedBaseline>")] | Annotated[ExistingExpert, Tag("<ExistingExpert>")],
    _kind_of("TrainedBaseline"),
]
