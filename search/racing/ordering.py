"""The order in which a search goes through an evaluator's items, so that any first share of them is a fair sample.

Stages of a race are prefixes of this order. Two things are balanced in every prefix:

* Cells. Each (task, language) has its share of the prefix, up to one item.
* Groups. Items of one group (a template in several languages) are spread evenly over the order, not kept together:
  a first quarter of six languages holds each template once or twice, in languages that rotate from template to
  template (a Latin square). What a group shares counts once for each group, so the error of a mean over a part of the
  items is smallest, and best known, when the part holds as many groups as it can: with m items a group that correlate
  by r, whole groups would have 1 + (m - 1) r times the variance (Kish 1965, section 5.4). A comparison of two
  candidates is paired by item and so loses nothing: both are scored on the same prefix.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from evaluators._types import Item

GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 spread evenly, however many there are


def balanced(items: Sequence[Item]) -> tuple[int, ...]:
    """Indices of `items` in an order whose every prefix is balanced; it depends on ids and labels, not on the order.

    Every cell (task, language) of c items among n has between c t / n - 1 and c t / n + 1 of the first t items.
    """
    languages = sorted({item.language for item in items})
    turn = {language: index / len(languages) for index, language in enumerate(languages)}
    groups = sorted({item.group for item in items}, key=lambda group: (_hash(group), group))
    place = {group: index / len(groups) for index, group in enumerate(groups)}
    cells: dict[tuple[str, str], list[tuple[int, float, str, int]]] = {}
    seen: Counter[tuple[str, str, str]] = Counter()
    for index in sorted(range(len(items)), key=lambda index: items[index].id):
        item = items[index]
        cell = item.task, item.language
        # A group's second item in the same cell waits until every group of the cell had its first.
        nth = seen[*cell, item.group]
        seen[*cell, item.group] += 1
        where = (place[item.group] + turn[item.language]) % 1.0
        cells.setdefault(cell, []).append((nth, where, item.id, index))
    keyed = []
    for number, cell in enumerate(sorted(cells)):
        size = len(cells[cell])
        # Cells begin at different places of their step, neighbours far apart: else those of one task, or of one
        # language, would round up at the same time and their sum be off by all of them.
        phase = (number * GOLDEN) % 1.0
        for rank, (*_, index) in enumerate(sorted(cells[cell])):
            keyed.append(((rank + phase) / size, number, index))
    return tuple(index for *_, index in sorted(keyed))


def stage_ends(count: int, stages: Sequence[float]) -> tuple[int, ...]:
    """Items scored by the end of each stage, of `count` in all: the share rounded up, the last one all.

    Args:
        count: items, at least 1.
        stages: rising shares in (0, 1], the last 1.
    """
    return tuple(min(count, math.ceil(share * count - 1e-9)) for share in stages)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
