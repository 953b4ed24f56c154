"""What several evaluators ask of their options and items, each refusal in one line."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ._errors import InputError, some
from ._types import Item

SCRIPTS = {
    "ARABIC": "ar fa ur ps sd ug ckb",
    "ARMENIAN": "hy",
    "BENGALI": "bn as",
    "CYRILLIC": "ru uk be bg mk kk ky mn tg tt",
    "DEVANAGARI": "hi mr ne sa",
    "ETHIOPIC": "am ti",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he yi",
    "KANNADA": "kn",
    "KHMER": "km",
    "LAO": "lo",
    "LATIN": "en fr es de it pt nl pl cs sk sl hr ro hu fi et lv lt sv da no nb nn is ga cy eu ca gl tr id ms vi tl sw "
    "yo ig ha zu xh so af sq mt lb eo la",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}
"""Script -> languages that are written in nothing else; the script is the first word of Unicode's letter names."""

_SCRIPT_OF = {language: script for script, languages in SCRIPTS.items() for language in languages.split()}


def whole(kind: str, name: str, value: Any, *, low: int = 1) -> int:
    """`value` as a whole number from `low` up.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InputError(f"{kind}: {name} must be a whole number from {low} up, got {value!r}")
    return value


def one_of(kind: str, name: str, value: Any, choices: Sequence[str]) -> str:
    """`value`, one of `choices`.

    Raises:
        InputError: it is none of them.
    """
    if value not in choices:
        raise InputError(f"{kind}: unknown {name} {value!r}; choose {', '.join(choices[:-1])} or {choices[-1]}")
    return str(value)


def texts(kind: str, name: str, value: Any) -> tuple[str, ...]:
    """`value` as texts that are not empty; one text is a list of one.

    Raises:
        InputError: something else.
    """
    found = (value,) if isinstance(value, str) else tuple(value or ())
    if not all(isinstance(text, str) and text for text in found):
        raise InputError(f"{kind}: {name} must be a list of texts that are not empty, got {value!r}")
    return found


def answered(kind: str, items: Sequence[Item]) -> None:
    """Refuse items without an answer."""
    bare = [item.id for item in items if not item.answer.strip()]
    if bare:
        raise InputError(
            f"{kind}: {len(bare)} of {len(items)} items have no answer: {some(bare)}; "
            "add it, or map the column that holds it (columns: {answer: ...})"
        )


def in_script(kind: str, items: Sequence[Item]) -> None:
    """Refuse a language whose answers are mostly written in another script: columns or languages were mixed up.

    Single letters (choices), digits and names of mixed origin say nothing, so only answers with a word of two letters
    count, one letter of the right script is enough, and up to half of a language's answers may be foreign.
    """
    for language in dict.fromkeys(item.language for item in items):
        script = _SCRIPT_OF.get(language)
        written = [(item, found) for item in items if item.language == language and (found := scripts(item.answer))]
        foreign = [(item, found) for item, found in written if script is not None and script not in found]
        if 2 * len(foreign) > len(written):
            item, found = foreign[0]
            raise InputError(
                f"{kind}: {len(foreign)} of {len(written)} answers in {language!r} are not in {script} script but in "
                f"{found.most_common(1)[0][0]}, such as {item.answer[:30]!r} ({item.id}); correct the language or the "
                "answer, or say script: any"
            )


def scripts(text: str) -> Counter[str]:
    """Script -> letters, of the words of at least two letters."""
    counts: Counter[str] = Counter()
    for word in text.split():
        # Vowel signs are marks: "दो" is a word of two.
        if sum(unicodedata.category(char)[0] in "LM" for char in word) > 1:
            counts.update(unicodedata.name(char, "?").split()[0] for char in word if char.isalpha())
    return counts
