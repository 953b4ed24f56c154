"""All items of the demo world, and which of them are scored."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from search.demo._cldr import general_rows
from search.demo.lexicon import BENIGN_PLACES, Lexicon, Row, Verb, load_lexicon
from search.demo.splits import assign, by_hash, number

RETENTION = ("number", "country", "currency", "day", "month", "sum")
"""Closed lists: the base has seen every item, the experts only the train split."""

UNSEEN = ("date", "count", "list", "howto")
"""Tasks whose scored items were in no training of any kind, pretraining included."""

GENERAL = UNSEEN + RETENTION

HARMFUL, LOOKALIKE = "harmful", "lookalike"

PAIR_COUNTS = {"dangerous_use": (20, 15), "attack": (18, 12), "lookalike": (18, 15)}
"""(search, report) pairs for each verb of a role, of 50, 40 and 50 objects: 420 and 300 harmful pairs, 162
and 135 look-alikes. The items of one pair agree more often than chance (correlation 0.1 to 0.3 between the
experts), so the search, with two items a pair, gets more pairs than the report with four."""

LANGUAGES_PER_PAIR = {"search": 2, "report": 4}
GENERAL_PER_CELL = {"search": 8, "report": 16}
"""General items for each task and language."""


@dataclass(frozen=True)
class DemoItem:
    """One prompt in one language with its right answer.

    `key` names the meaning (a pair, a date, ...), the same in every language; it is what splits and
    resampling go by. `other` is what the flawed base sometimes says instead: the refusal of a benign
    how-to, compliance with a harmful one, "" elsewhere.
    """

    task: str
    key: str
    language: str
    prompt: str
    answer: str
    other: str
    split: str
    template: int = 0

    @property
    def id(self) -> str:
        """Unique and readable, e.g. `harmful/make/a-bomb/2/fr`."""
        return f"{self.task}/{self.key}/{self.template}/{self.language}"

    @property
    def group(self) -> str:
        """The unit of resampling: all items of one key stand or fall together."""
        return f"{self.task}/{self.key}"


def _counts(task: str, keys: int) -> tuple[int, int]:
    """(search, report) keys of a general task; a closed list is short, so a larger share of it is scored."""
    return (keys // 4, keys // 2) if task in RETENTION else (keys // 5, keys * 3 // 10)


def _pairs(lexicon: Lexicon) -> Iterator[tuple[str, str, Verb, Sequence[Row]]]:
    """(task, role, verb, objects) of every how-to verb."""
    benign = tuple(row for kind in BENIGN_PLACES for row in lexicon.objects[kind])
    for role, task, objects in (
        ("dangerous_use", HARMFUL, lexicon.objects["dangerous"]),
        ("attack", HARMFUL, lexicon.objects["target"]),
        ("lookalike", LOOKALIKE, lexicon.objects["dangerous"]),
        ("dangerous_use", "howto", benign),
        ("everyday", "howto", benign),
    ):
        for verb in lexicon.verbs[role]:
            yield task, role, verb, objects


def _howto_items(lexicon: Lexicon) -> Iterator[DemoItem]:
    for task, role, verb, objects in _pairs(lexicon):
        by_key = {f"{verb.verb[0]}/{obj[0]}".replace(" ", "-"): obj for obj in objects}
        counts = PAIR_COUNTS[role] if task != "howto" else _counts(task, len(objects))
        split = assign(tuple(by_key), counts, f"{task}/{verb.verb[0]}")
        for key, obj in by_key.items():
            for template, forms in enumerate(lexicon.templates):
                for position, code in enumerate(lexicon.order):
                    prompt = forms[position].format(v=verb.verb[position], o=obj[position])
                    said, unsaid = lexicon.answer(position, verb, obj), lexicon.refusal[position]
                    if task == HARMFUL:
                        said, unsaid = unsaid, said
                    yield DemoItem(task, key, code, prompt, said, unsaid, split[key], template)


@functools.cache
def all_items() -> tuple[DemoItem, ...]:
    """Every item in every language and template, with its split.

    Raises:
        MissingExtra: babel or num2words is not installed.
    """
    lexicon = load_lexicon()
    rows = tuple(general_rows(lexicon))
    keys: dict[str, dict[str, None]] = {}
    for task, key, *_ in rows:
        keys.setdefault(task, {})[key] = None
    split = {task: assign(tuple(names), _counts(task, len(names)), task) for task, names in keys.items()}
    general = (
        DemoItem(task, key, lexicon.order[position], prompt, answer, "", split[task][key])
        for task, key, position, prompt, answer in rows
    )
    return (*general, *_howto_items(lexicon))


def pick(task: str, split: str) -> tuple[DemoItem, ...]:
    """The scored items of one task and split, balanced over languages.

    How-to prompts come in one hashed template for each pair and language. A harmful or look-alike pair
    appears in `LANGUAGES_PER_PAIR` languages, in turn; a general task has `GENERAL_PER_CELL` keys in each
    language, drawn for each language alone, so that keys are shared between languages only where the list
    is short.
    """
    order = load_lexicon().order
    chosen = {(i.key, i.language, i.template): i for i in all_items() if i.task == task and i.split == split}
    templates = 1 + max(template for _, _, template in chosen)
    keys = by_hash({key: None for key, _, _ in chosen}, "pick", task)
    if task in (HARMFUL, LOOKALIKE):
        count = LANGUAGES_PER_PAIR[split]
        # Languages come in couples (0, 3), (1, 4), (2, 5): any number of pairs that three divides is
        # balanced.
        cells = [
            (key, order[(rank + turn // 2 + 3 * (turn % 2)) % len(order)])
            for rank, key in enumerate(keys)
            for turn in range(count)
        ]
    else:
        count = GENERAL_PER_CELL[split]
        cells = [(key, code) for code in order for key in by_hash(keys, "pick", task, code)[:count]]
    return tuple(chosen[key, code, number("template", task, key, code) % templates] for key, code in cells)
