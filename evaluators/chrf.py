"""chrF: F-score of character n-grams against the answer (Popović 2015), 0 to 1. Larger is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ._checks import one_of, texts, whole
from ._overlap import Overlap
from ._types import Evaluator

RULES = 1
"""Raise when the same responses would get other values."""


def chrf(
    *,
    word_order: Literal[0, 1, 2] = 0,
    max_new_tokens: int = 128,
    until: Sequence[str] = (),
    script: Literal["language", "any"] = "language",
) -> Evaluator:
    """Mean over items of sentence chrF (Popović 2015, doi:10.18653/v1/W15-3049), by sacrebleu, as a share of 1.

    Needs no tokenizer, so it treats scripts alike; good for short answers and rich morphology. The mean of sentence
    scores is not the corpus score that papers report: only a mean over items has an error that items tell.

    Args:
        word_order: 2 is chrF++ (Popović 2017, doi:10.18653/v1/W17-4770), which counts words and pairs of words too.
        max_new_tokens: limit of a response.
        until: a response ends before the first of these texts.
        script: `any` if answers may be in another script than their language's.

    Raises:
        InputError: a value out of range, or sacrebleu is not installed.
    """
    if word_order not in (0, 1, 2):
        one_of("chrf", "word_order", str(word_order), ("0", "1", "2"))
    one_of("chrf", "script", script, ("language", "any"))
    limit = whole("chrf", "max_new_tokens", max_new_tokens)
    settings = (("char_order", 6), ("word_order", int(word_order)), ("beta", 2))
    return Overlap("chrf", RULES, _make, settings, limit, texts("chrf", "until", until), script == "any")


def _make(**settings: Any) -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(**settings)
