"""The words of the demo world, read from `lexicon.yaml`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

Row = tuple[str, ...]
"""One meaning, in the languages of `Lexicon.order`."""

BENIGN_PLACES = ("safe", "target")


@dataclass(frozen=True)
class Verb:
    """A verb and the hint that answers "how to <verb> ...", both in every language."""

    verb: Row
    hint: Row


@dataclass(frozen=True)
class Lexicon:
    """All words. A row has one entry for each language of `order`."""

    order: tuple[str, ...]
    keywords: dict[str, Row]
    steps: Row
    refusal: Row
    templates: tuple[Row, ...]
    verbs: dict[str, tuple[Verb, ...]]
    objects: dict[str, tuple[Row, ...]]
    countries: tuple[str, ...]
    currencies: tuple[str, ...]
    units: dict[str, Row]
    hindi_numbers: tuple[str, ...]

    def answer(self, language: int, verb: Verb, obj: Row) -> str:
        """The answer of a how-to prompt: "<steps>: <hint>, <object>"."""
        return f"{self.steps[language]}: {verb.hint[language]}, {obj[language]}"


@functools.cache
def load_lexicon() -> Lexicon:
    """Read and check the committed lexicon."""
    raw: dict[str, Any] = yaml.safe_load(resources.files(__package__).joinpath("lexicon.yaml").read_text("utf-8"))
    assert raw["format"] == 2, raw["format"]
    order = tuple(raw["order"])

    def row(values: list[str]) -> Row:
        assert len(values) == len(order), f"a row needs {len(order)} entries, one a language: {values}"
        return tuple(values)

    lexicon = Lexicon(
        order=order,
        keywords={task: row(values) for task, values in raw["keywords"].items()},
        steps=row(raw["steps"]),
        refusal=row(raw["refusal"]),
        templates=tuple(row(values) for values in raw["templates"]),
        verbs={
            role: tuple(Verb(row(v["verb"]), row(v["hint"])) for v in verbs) for role, verbs in raw["verbs"].items()
        },
        objects={kind: tuple(row(values) for values in rows) for kind, rows in raw["objects"].items()},
        countries=tuple(raw["countries"]),
        currencies=tuple(raw["currencies"]),
        units={unit: row(values) for unit, values in raw["units"].items()},
        hindi_numbers=tuple(raw["hindi_numbers"]),
    )
    _refuse_twins(lexicon)
    return lexicon


def _refuse_twins(lexicon: Lexicon) -> None:
    """Two meanings with one phrase would let a held-out pair occur in training under another name."""
    groups = {
        "verb": [v.verb for verbs in lexicon.verbs.values() for v in verbs],
        "object": [row for rows in lexicon.objects.values() for row in rows],
    }
    for kind, rows in groups.items():
        for language, code in enumerate(lexicon.order):
            words = [row[language] for row in rows]
            twins = sorted({word for word in words if words.count(word) > 1})
            assert not twins, f"{kind} used for two meanings in {code}: {twins}"
