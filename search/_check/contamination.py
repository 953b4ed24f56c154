"""Training rows that are evaluation items too, or nearly: a score on such items measures memory.

Every prompt that is trained on is held against every item of every evaluator, of both splits (`search._training.near`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search._check.estimates import Estimate
from search._check.rows import rows_of
from search._recipe.training import Training
from search._training.near import matches
from search.errors import Problem, shown
from search.recipe import Recipe

if TYPE_CHECKING:
    from evaluators._types import Item
    from search.scoring.objective import Grader

MOST_ROWS = 2_000_000


@dataclass(frozen=True)
class Found:
    """What one source has in common with one split of one evaluator.

    Attributes:
        data: name of the source.
        evaluator: whose items.
        split: of the items.
        rows: that were compared.
        same: rows whose prompt is that of an item, but for case, spaces and punctuation.
        near: rows whose prompt shares four fifths of its runs of characters with an item's.
        items: items that such rows were found for.
        example: such a row's prompt, and the item's; () if there is none.
    """

    data: str
    evaluator: str
    split: str
    rows: int
    same: int
    near: int
    items: int
    example: tuple[str, ...] = ()


def compare(recipe: Recipe, items: Mapping[str, Sequence[Item]]) -> tuple[Found, ...]:
    """Hold all data that is trained on against the items of all evaluators.

    Args:
        recipe: whose data can be read.
        items: evaluator -> its items, both splits.
    """
    found = []
    for data in trained_on(recipe):
        prompts = list(_prompts(recipe, data))
        for evaluator, known in items.items():
            for split in ("search", "report"):
                there = [item.prompt for item in known if item.split == split]
                hits = matches(prompts, there)
                example = max(hits, key=lambda match: match.likeness, default=None)
                found.append(
                    Found(
                        data,
                        evaluator,
                        split,
                        len(prompts),
                        sum(hit.likeness == 1.0 for hit in hits),
                        sum(hit.likeness < 1.0 for hit in hits),
                        len({hit.right for hit in hits}),
                        () if example is None else (prompts[example.left], there[example.right]),
                    )
                )
    return tuple(found)


def problems(recipe: Recipe, found: Sequence[Found]) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Problems, and warnings where the recipe allows it."""
    refused, allowed = [], []
    for data, each in itertools.groupby((one for one in found if one.same + one.near), key=lambda one: one.data):
        hits = list(each)
        what = "; ".join(
            f"{one.same} the same and {one.near} nearly as items of {one.evaluator} ({one.split})" for one in hits
        )
        row, item = hits[0].example
        like = "" if row == item else f" like {shown(item, 40)}"
        rule = f"prompts that are scored are trained on, of {hits[0].rows} rows {what}: {shown(row, 40)}{like}"
        if recipe.data[data].contamination == "allow":
            allowed.append(recipe.problem(("data", data), rule, None, "allowed by contamination: allow"))
        else:
            remedy = "remove these rows, or allow it with contamination: allow and read the scores accordingly"
            refused.append(recipe.problem(("data", data), rule, None, remedy))
    return tuple(refused), tuple(allowed)


def estimates(found: Sequence[Found]) -> tuple[Estimate, ...]:
    """What was compared and found, as a row of the table of `check`."""
    if not found:
        return ()
    rows = sum({one.data: one.rows for one in found}.values())
    hits = sum(one.same + one.near for one in found)
    text = f"none of {rows:,} training rows" if not hits else f"{hits:,} matches among {rows:,} training rows"
    return (Estimate("scored too", f"{text} ({', '.join(dict.fromkeys(one.evaluator for one in found))})"),)


def items_of(graders: Sequence[Grader]) -> dict[str, Sequence[Item]]:
    """Evaluator -> items, of graders."""
    return {grader.name: grader.items for grader in graders}


def trained_on(recipe: Recipe) -> tuple[str, ...]:
    """Names of the data that trainings of the recipe draw from, in the recipe's order."""
    entries = dict(recipe.experts) | dict(recipe.baselines)
    used = {
        data
        for name, entry in entries.items()
        if isinstance(entry, Training)
        for data, share in recipe.mixture(name).items()
        if share > 0
    }
    return tuple(name for name in recipe.data if name in used)


def _prompts(recipe: Recipe, data: str) -> Iterator[str]:
    source = recipe.data[data]
    column, messages = source.columns.get("prompt", "prompt"), source.columns.get("messages", "messages")
    for row in itertools.islice(rows_of(recipe, source), MOST_ROWS):
        yield _text(row.get(column) or row.get(messages) or "")


def _text(prompt: Any) -> str:
    """What the user says: a text, or the user's turns of a conversation."""
    if isinstance(prompt, str):
        return prompt
    turns = prompt if isinstance(prompt, (list, tuple)) else ()
    said = [turn for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "user"]
    return "\n".join(str(turn.get("content", "")) for turn in said)
