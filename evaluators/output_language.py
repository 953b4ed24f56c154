"""Output language: 1 if the response is in the item's language, else 0. Larger is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._checks import texts, whole
from ._errors import InputError, some
from ._refusals import SENTENCES
from ._types import Evaluator, Item, Room

if TYPE_CHECKING:
    from ._engine import Engine

RULES = 1
"""Raise when the same responses would get other values."""

SAME = {"no": "nb", "fil": "tl", "iw": "he", "in": "id"}
"""Codes of recipes -> lingua's."""


def output_language(*, max_new_tokens: int = 64, among: Sequence[str] = (), until: Sequence[str] = ()) -> Evaluator:
    """Share of items that are answered in the language asked for (language confusion: Marchisio et al. 2024).

    The language of a greedy response is found by lingua (Apache-2.0, models inside the package, nothing is
    downloaded), among 75 languages or those given. A response without letters is in no language. Texts below some five
    words are guesses: give `among`, and compare models on the same items instead of reading the value alone.

    Args:
        max_new_tokens: limit of a response.
        among: languages that a response may be taken for; all that lingua knows (1.1 GB of memory) if left out.
        until: a response ends before the first of these texts.

    Raises:
        InputError: a language that lingua does not know, or lingua is not installed.
    """
    listed = texts("output_language", "among", among)
    for code in listed:
        _language(code)
    if len(listed) == 1:
        raise InputError(f"output_language: among must list at least two languages, got {listed[0]!r} alone")
    limit = whole("output_language", "max_new_tokens", max_new_tokens)
    return OutputLanguage(limit, listed, texts("output_language", "until", until))


@dataclass(frozen=True)
class OutputLanguage:
    """See `output_language`."""

    max_new_tokens: int
    among: tuple[str, ...]
    until: tuple[str, ...]
    kind: str = "output_language"

    @property
    def version(self) -> str:
        """The rules, lingua's release and what changes values."""
        from importlib.metadata import version

        among = ",".join(self.among) or "all"
        lingua = version("lingua-language-detector")
        return (
            f"{self.kind}-{RULES};lingua={lingua};among={among};max_new_tokens={self.max_new_tokens};"
            f"until={','.join(map(repr, self.until))}"
        )

    def check(self, items: Sequence[Item]) -> None:
        """Refuse languages that cannot be told."""
        for language in dict.fromkeys(item.language for item in items):
            _language(language)
        asked = dict.fromkeys(item.language for item in items)
        absent = [code for code in asked if self.among and code not in self.among]
        if absent:
            raise InputError(f"{self.kind}: among does not list {some(absent)}, in which items are; add it")

    def room(self, item: Item) -> Room:
        """The tokens that may be written."""
        return Room(new_tokens=self.max_new_tokens)

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """1 where the response is in the item's language, else 0."""
        prompts = [item.prompt for item in items]
        responses = engine.generate(prompts, max_new_tokens=self.max_new_tokens, until=self.until)
        return tuple(self.grade(item, text) for item, text in zip(items, responses, strict=True))

    def grade(self, item: Item, response: str) -> float:
        """1 if `response` is in the item's language."""
        return float(_detector(self.among).detect_language_of(response) == _language(item.language))

    def gold(self, item: Item) -> str:
        """A sentence in the item's language: ours for six languages, else the answer or the prompt."""
        return SENTENCES.get(item.language) or item.answer or item.prompt

    def empty(self, item: Item) -> str:
        """No text at all."""
        return ""


@lru_cache(maxsize=2)
def _detector(among: tuple[str, ...]) -> Any:
    from lingua import LanguageDetectorBuilder

    if not among:
        return LanguageDetectorBuilder.from_all_languages().build()
    return LanguageDetectorBuilder.from_languages(*dict.fromkeys(map(_language, among))).build()


@lru_cache(maxsize=256)
def _language(code: str) -> Any:
    try:
        from lingua import Language
    except ImportError:
        raise InputError(
            "output_language: lingua-language-detector is not installed; pip install 'mergefront[text]'"
        ) from None
    short = code.split("-")[0].split("_")[0].lower()
    name = SAME.get(short, short).upper()
    for language in Language.all():
        if name in (language.iso_code_639_1.name, language.iso_code_639_3.name):
            return language
    raise InputError(f"output_language: lingua cannot tell the language {code!r}; leave its items out")
