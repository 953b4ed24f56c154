"""The values of this package: an item to answer, a score with its uncertainty, and what an evaluator is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ._engine import Engine

SPLITS = ("search", "report")
"""The search sees the items of the first and never those of the second."""


@dataclass(frozen=True)
class Item:
    """One prompt with what is known about it.

    Attributes:
        id: unique within an evaluator's items; enters result keys.
        prompt: what the user says, before any chat template.
        answer: the expected response; may be empty where the evaluator needs none.
        language: code as in the recipe, e.g. "hi".
        group: unit of resampling: items that share it (a template, a verb-object pair) are not independent.
        task: free label, "" if there is none.
        split: "search" or "report".
        choices: texts to choose from, where the evaluator needs them; `answer` is one of them.
        tests: a program that fails if the answer is wrong, where the evaluator needs one.
    """

    id: str
    prompt: str
    answer: str
    language: str
    group: str
    task: str
    split: str
    choices: tuple[str, ...] = ()
    tests: str = ""


@dataclass(frozen=True)
class Score:
    """A mean over items, never without its uncertainty.

    Attributes:
        value: the mean, in the unit of the evaluator, as measured (no sign flip for objectives to minimise).
        stderr: standard error of `value`, same unit.
        n: number of items.
    """

    value: float
    stderr: float
    n: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and math.isfinite(self.stderr)):
            raise ValueError(f"a score must be finite: value {self.value}, stderr {self.stderr}")
        if self.stderr < 0 or self.n < 1:
            raise ValueError(f"a score needs stderr >= 0 and n >= 1: stderr {self.stderr}, n {self.n}")


class Evaluator(Protocol):
    """Items and a model to one number per item. Immutable, and picklable: it travels to actors."""

    @property
    def kind(self) -> str:
        """The name that a recipe uses: the file name of the evaluator."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same responses could get other values; enters result keys."""
        ...

    def check(self, items: Sequence[Item]) -> None:
        """Refuse items that this evaluator cannot score, before any model is loaded.

        Raises:
            InputError: naming how many items and which.
        """
        ...

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """One value in [0, 1] per item, in the order of `items`; a value depends on its own item only.

        Raises:
            InputError: a prompt does not fit the model's context.
        """
        ...

    def grade(self, item: Item, response: str) -> float:
        """The value in [0, 1] of a complete response.

        Where a model is asked for likelihoods, the response is what they say: the choice that is likeliest, or the
        mean log-probability of a token as a number.
        """
        ...

    def gold(self, item: Item) -> str:
        """A response that grades 1."""
        ...

    def empty(self, item: Item) -> str:
        """A response that grades 0."""
        ...


@dataclass(frozen=True)
class Room:
    """What must fit into the model's context with a prompt.

    Attributes:
        continuations: texts that the model is asked about, each by itself.
        new_tokens: that may be generated.
        chat: whether the prompt goes through the chat template.
    """

    continuations: tuple[str, ...] = ()
    new_tokens: int = 0
    chat: bool = True


@runtime_checkable
class Asking(Protocol):
    """An evaluator that says beforehand what it will ask, so that prompts that are too long are found by a check."""

    def room(self, item: Item) -> Room:
        """What it will ask with the item's prompt."""
        ...


@runtime_checkable
class Bringing(Protocol):
    """An evaluator that brings its items; a recipe gives it no data."""

    def items(self, languages: Sequence[str]) -> tuple[Item, ...]:
        """Its items in the languages that a recipe lists, in an order that never changes.

        Raises:
            InputError: they are not on this machine, or in another language.
        """
        ...
