"""Rewards for ``grpo`` that compare a completion with the column ``answer``: named in a recipe by their import path.

Each is called as TRL calls a reward, with lists of equal length, and gives one number for each completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def exact(prompts: Sequence[Any], completions: Sequence[Any], *, answer: Sequence[str], **_: Any) -> list[float]:
    """1 where the completion is the answer, white space at both ends apart, else 0."""
    return [float(_text(said).strip() == wanted.strip()) for said, wanted in zip(completions, answer, strict=True)]


def contains(prompts: Sequence[Any], completions: Sequence[Any], *, answer: Sequence[str], **_: Any) -> list[float]:
    """1 where the answer is somewhere in the completion, else 0."""
    return [float(wanted.strip() in _text(said)) for said, wanted in zip(completions, answer, strict=True)]


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
