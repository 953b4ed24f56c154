"""Rewards for the tests: graded, so that a model that knows nothing yet gets something to learn from."""

from collections.abc import Sequence
from typing import Any

WANTED = frozenset("abcdefghijklm")


def early_letters(
    prompts: Sequence[str], completions: Sequence[str], *, answer: Sequence[str], **_: Any
) -> list[float]:
    """Share of the characters that are in the first half of the alphabet."""
    assert len(prompts) == len(completions) == len(answer)
    return [sum(character in WANTED for character in said) / max(1, len(said)) for said in completions]


def broken(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    return [float("nan") for _ in completions]


def raising(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    raise KeyError("the sandbox is gone")
