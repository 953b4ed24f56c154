"""Choice by likelihood: 1 if the right one of several texts is the likeliest, else 0. Larger is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ._checks import answered, one_of
from ._errors import InputError, some
from ._types import Evaluator, Item, Room

if TYPE_CHECKING:
    from ._engine import Engine

RULES = 1
"""Raise when the same likelihoods would get other values."""


def choice_loglikelihood(
    *, normalise: Literal["none", "characters"] = "none", chat: bool = True, delimiter: str = ""
) -> Evaluator:
    """Share of items whose likeliest choice is the answer.

    Every choice is scored by the sum of the log-probabilities of its tokens after the prompt, its end not counted: lm-
    eval's `acc`, and with `normalise: characters` its `acc_norm`. Of equal likelihoods the first wins, as there.

    Args:
        normalise: `characters` divides a choice's log-probability by its length, so that long choices are not at a
            disadvantage.
        chat: whether prompts go through the chat template; `false` for items in the form of a text to go on with.
        delimiter: put before every choice, such as a space where texts go on with a word.

    Raises:
        InputError: an unknown way to normalise.
    """
    one_of("choice_loglikelihood", "normalise", normalise, ("none", "characters"))
    return ChoiceLoglikelihood(normalise, bool(chat), str(delimiter))


@dataclass(frozen=True)
class ChoiceLoglikelihood:
    """See `choice_loglikelihood`."""

    normalise: str
    chat: bool
    delimiter: str
    kind: str = "choice_loglikelihood"

    @property
    def version(self) -> str:
        """The rules and what changes values."""
        return f"{self.kind}-{RULES};normalise={self.normalise};chat={self.chat};delimiter={self.delimiter!r}"

    def check(self, items: Sequence[Item]) -> None:
        """Refuse items without an answer, with fewer than two choices, or whose answer is none of them once."""
        answered(self.kind, items)
        few = [item.id for item in items if len(item.choices) < 2 or not all(item.choices)]
        if few:
            raise InputError(
                f"{self.kind}: {len(few)} of {len(items)} items have fewer than two choices, or an empty one: "
                f"{some(few)}; add a column choices with a list of texts"
            )
        odd = [item.id for item in items if item.choices.count(item.answer) != 1]
        if odd:
            raise InputError(
                f"{self.kind}: the answer of {len(odd)} of {len(items)} items is not exactly one of their choices: "
                f"{some(odd)}; write it as it stands there"
            )

    def room(self, item: Item) -> Room:
        """The choices."""
        return Room(tuple(self.delimiter + choice for choice in item.choices), chat=self.chat)

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """1 where the likeliest choice is the answer, else 0."""
        prompts = [item.prompt for item in items for _ in item.choices]
        texts = [self.delimiter + choice for item in items for choice in item.choices]
        values = iter([likelihood.logprob for likelihood in engine.loglikelihood(prompts, texts, chat=self.chat)])
        return tuple(self.grade(item, self._likeliest(item, [next(values) for _ in item.choices])) for item in items)

    def grade(self, item: Item, response: str) -> float:
        """1 if `response`, the text of the likeliest choice, is the answer."""
        return float(response == item.answer != "")

    def gold(self, item: Item) -> str:
        """The answer."""
        return item.answer

    def empty(self, item: Item) -> str:
        """No choice."""
        return ""

    def _likeliest(self, item: Item, values: Sequence[float]) -> str:
        if self.normalise == "characters":
            values = [value / len(choice) for value, choice in zip(values, item.choices, strict=True)]
        return item.choices[max(range(len(values)), key=lambda index: (values[index], -index))]
