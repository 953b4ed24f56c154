"""BLEU: precision of word n-grams against the answer (Papineni et al. 2002), 0 to 1. Larger is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ._checks import one_of, texts, whole
from ._overlap import Overlap
from ._types import Evaluator

RULES = 1
"""Raise when the same responses would get other values."""

TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""sacrebleu's that need no download and no further library."""


def bleu(
    *,
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a",
    max_new_tokens: int = 128,
    until: Sequence[str] = (),
    script: Literal["language", "any"] = "language",
) -> Evaluator:
    """Mean over items of sentence BLEU (Papineni et al. 2002, doi:10.3115/1073083.1073135), by sacrebleu (Post 2018).

    Up to four-grams with exponential smoothing and effective order (no n-gram order that the response is too short
    for), as sacrebleu's sentence BLEU. The mean of sentence scores is not corpus BLEU: only a mean over items has an
    error that items tell.

    Args:
        tokenize: `13a` for languages with spaces, `intl` for more punctuation, `zh` or `char` for those without spaces.
        max_new_tokens: limit of a response.
        until: a response ends before the first of these texts.
        script: `any` if answers may be in another script than their language's.

    Raises:
        InputError: a value out of range, or sacrebleu is not installed.
    """
    one_of("bleu", "tokenize", tokenize, TOKENIZERS)
    one_of("bleu", "script", script, ("language", "any"))
    limit = whole("bleu", "max_new_tokens", max_new_tokens)
    settings = (("tokenize", tokenize), ("smooth_method", "exp"), ("effective_order", True))
    return Overlap("bleu", RULES, _make, settings, limit, texts("bleu", "until", until), script == "any")


def _make(**settings: Any) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(**settings)
