"""Perplexity, as its inverse: the geometric mean probability of a token (or byte) of the text. Larger is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ._checks import one_of
from ._types import Evaluator, Item, Room

if TYPE_CHECKING:
    from ._engine import Engine

RULES = 1
"""Raise when the same likelihoods would get other values."""


def perplexity(*, unit: Literal["token", "byte"] = "token", chat: bool = True) -> Evaluator:
    """Mean over items of 1 / perplexity, in (0, 1].

    An item's perplexity is exp(-L / n), with L the log-probability of its answer after its prompt and n the number of
    tokens (or UTF-8 bytes) of the answer. An item without an answer is a text of its own: its prompt is scored from its
    first token on, without a template (lm-eval's rolling likelihood of a text that fits the context).

    The inverse, because it is bounded: one odd text cannot decide a mean, and intervals hold that need values in
    [0, 1]. The inverse of the value is the harmonic mean of the items' perplexities, not a corpus perplexity.

    Args:
        unit: `byte` compares models with different tokenizers; bytes of different scripts are not comparable.
        chat: whether prompts with an answer go through the chat template.

    Raises:
        InputError: an unknown unit.
    """
    return Perplexity(one_of("perplexity", "unit", unit, ("token", "byte")), bool(chat))


@dataclass(frozen=True)
class Perplexity:
    """See `perplexity`."""

    unit: str
    chat: bool
    kind: str = "perplexity"

    @property
    def version(self) -> str:
        """The rules and what changes values."""
        return f"{self.kind}-{RULES};unit={self.unit};chat={self.chat}"

    def check(self, items: Sequence[Item]) -> None:
        """Every item has a prompt, and a prompt is a text: nothing to check."""

    def room(self, item: Item) -> Room:
        """The text."""
        return Room((item.answer or item.prompt,), chat=self.chat and bool(item.answer))

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """The inverse perplexity of each item's text."""
        values = [0.0] * len(items)
        for conditional in (True, False):
            rows = [row for row, item in enumerate(items) if bool(item.answer) is conditional]
            heads = [items[row].prompt if conditional else "" for row in rows]
            tails = [items[row].answer or items[row].prompt for row in rows]
            found = engine.loglikelihood(heads, tails, chat=self.chat and conditional)
            for row, tail, likelihood in zip(rows, tails, found, strict=True):
                count = likelihood.tokens if self.unit == "token" else len(tail.encode())
                values[row] = self.grade(items[row], repr(likelihood.logprob / max(1, count)))
        return tuple(values)

    def grade(self, item: Item, response: str) -> float:
        """Exp of `response`, the mean log-probability of a token or byte."""
        return math.exp(min(0.0, float(response)))

    def gold(self, item: Item) -> str:
        """Every token is certain."""
        return "0.0"

    def empty(self, item: Item) -> str:
        """Every token is impossible."""
        return "-inf"
