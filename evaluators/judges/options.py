"""What the judging kinds share: their options checked, and the part of a version that says who judges how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._checks import whole
from .._errors import InputError
from .prompts import load_prompt
from .settings import Judge, judge_of


def options(
    kind: str, judge: Mapping[str, Any] | Judge | None, prompt: str, fields: tuple[str, ...], language: str, limit: int
) -> Judge | None:
    """The judge of a judging kind, with its other options checked.

    Raises:
        InputError: as the kinds say.
    """
    if isinstance(judge, str):
        raise InputError(f"{kind}: there is no judge {judge!r}; describe it in the recipe's section judges")
    whole(kind, "max_new_tokens", limit)
    known = load_prompt(prompt, fields)
    if language and language not in known.languages:
        raise InputError(f"{kind}: prompt {prompt} has no language {language!r}; it has {', '.join(known.languages)}")
    return None if judge is None else judge_of(judge)


def needed(kind: str, judge: Judge | None) -> Judge:
    """The judge.

    Raises:
        InputError: there is none.
    """
    if judge is None:
        raise InputError(f"{kind}: needs a judge; describe one under judges and name it (options: {{judge: NAME}})")
    return judge


def told(judge: Judge | None, prompt: str, fields: tuple[str, ...], language: str, limit: int) -> str:
    """What of judge and prompt changes values, as part of a version."""
    loaded = load_prompt(prompt, fields)
    who = f"{judge.digest()}x{judge.votes}" if judge else "none"
    return f"judge={who};prompt={loaded.name}/{loaded.digest};language={language};max_new_tokens={limit}"
