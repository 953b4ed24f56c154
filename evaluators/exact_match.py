"""Exact match: 1 if the response is the expected answer, else 0. Larger is better."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ._checks import answered, in_script, one_of, whole
from ._types import Evaluator, Item, Room

if TYPE_CHECKING:
    from ._engine import Engine

RULES = 1
"""Raise when the same responses would get other values."""


def exact_match(
    *,
    mode: Literal["teacher_forced", "generate"] = "teacher_forced",
    max_new_tokens: int = 32,
    script: Literal["language", "any"] = "language",
) -> Evaluator:
    """Share of items whose greedy response is exactly the answer.

    `teacher_forced` asks in one pass whether greedy decoding would give the answer's tokens and then stop: several
    times cheaper than generating, and the same as comparing tokens. It is the default because short answers are spelled
    in one way. It is stricter than comparing text: a model that spells the answer with other tokens, adds a space, or
    writes on after it, gets 0.

    `generate` writes up to `max_new_tokens` tokens and compares text: Unicode NFC, outer white space removed, each
    inner run of white space one space. Case, digits and punctuation count.

    Args:
        mode: how to ask.
        max_new_tokens: limit of `generate`; an answer that needs more can never match.
        script: `any` if answers may be in another script than their language's.

    Raises:
        InputError: an unknown mode or script, or a limit below 1.
    """
    one_of("exact_match", "mode", mode, ("teacher_forced", "generate"))
    one_of("exact_match", "script", script, ("language", "any"))
    return ExactMatch(mode, whole("exact_match", "max_new_tokens", max_new_tokens), script == "any")


@dataclass(frozen=True)
class ExactMatch:
    """See `exact_match`."""

    mode: str
    max_new_tokens: int
    any_script: bool = False
    kind: str = "exact_match"

    @property
    def version(self) -> str:
        """The rules and what changes values."""
        limit = f";max_new_tokens={self.max_new_tokens}" if self.mode == "generate" else ""
        return f"{self.kind}-{RULES};mode={self.mode}{limit}"

    def check(self, items: Sequence[Item]) -> None:
        """Refuse items without an answer, and languages whose answers are in another script."""
        answered(self.kind, items)
        if not self.any_script:
            in_script(self.kind, items)

    def room(self, item: Item) -> Room:
        """The answer, or the tokens that may be written."""
        return Room((item.answer,)) if self.mode == "teacher_forced" else Room(new_tokens=self.max_new_tokens)

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """1 for a match, else 0."""
        prompts = [item.prompt for item in items]
        if self.mode == "teacher_forced":
            return tuple(float(same) for same in engine.matches(prompts, [item.answer for item in items]))
        wanted = [normal(item.answer) for item in items]
        texts = engine.generate(
            prompts, max_new_tokens=self.max_new_tokens, stop=lambda index, text: not _may_become(text, wanted[index])
        )
        return tuple(self.grade(item, text) for item, text in zip(items, texts, strict=True))

    def grade(self, item: Item, response: str) -> float:
        """1 if the texts are equal after normalisation."""
        return float(normal(response) == normal(item.answer) != "")

    def gold(self, item: Item) -> str:
        """The answer."""
        return item.answer

    def empty(self, item: Item) -> str:
        """No text at all."""
        return ""


def normal(text: str) -> str:
    """NFC, outer white space removed, inner runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _may_become(text: str, wanted: str) -> bool:
    """Whether `text` with more after it could still normalise to `wanted` (or already does)."""
    settled = normal(text)
    # Characters to come may still combine with the last base character, so it is not settled yet.
    while settled and unicodedata.combining(settled[-1]):
        settled = settled[:-1]
    return wanted.startswith(settled[:-1].rstrip())
