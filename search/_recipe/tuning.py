"""What a training may be tuned over, and how: the keys beside `tune`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag, model_validator

from search._recipe.fields import at_least_one, flag, number, refusal, tuple_of
from search._recipe.models import Section

FIELDS = ("learning_rate", "batch", "warmup", "weight_decay", "steps")
LORA = ("lora.r", "lora.alpha", "lora.dropout")
WHOLE = ("batch", "steps", "lora.r")
"""Settings that are whole numbers; the others are numbers, or what the trainer's option says."""

LOSS = "loss"
TRIALS, HOLDOUT = 8, 0.1
ONLY_TUNED = ("trials", "scheduler", "metric", "concurrency", "holdout", "keep")
"""Keys that mean nothing without `tune`."""


class TuneRange(Section):
    """An interval to tune a setting over, both ends included; `log` draws the logarithm uniformly."""

    low: Annotated[float, number(0)]
    high: Annotated[float, number(0)]
    log: Annotated[bool, flag()] = False

    @model_validator(mode="after")
    def _ordered(self) -> TuneRange:
        if self.low >= self.high or (self.log and self.low == 0):
            raise refusal("needs low < high, and low > 0 if log", "change low or high")
        return self


Values = Annotated[tuple[bool | int | float | str, ...], tuple_of(at_least_one)]

Tunable = Annotated[
    Annotated[TuneRange, Tag("<TuneRange>")] | Annotated[Values, Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, (list, tuple)) else "<TuneRange>"),
]
"""An interval, or a list of values to choose from."""


def ends(tunable: TuneRange | tuple[Any, ...]) -> tuple[Any, ...]:
    """The values that stand for all: both ends of an interval, or every value of a list."""
    return (tunable.low, tunable.high) if isinstance(tunable, TuneRange) else tunable
