from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators._types import Item
from search.racing.ordering import balanced, stage_ends

LANGUAGES = ("en", "fr", "hi", "ar", "zh", "ru")


def item(key: str, language: str, group: str, task: str = "") -> Item:
    return Item(key, "p", "", language, group, task, "search")


def templates(count: int, languages: tuple[str, ...] = LANGUAGES) -> list[Item]:
    return [item(f"{t}/{code}", code, f"t{t}") for t in range(count) for code in languages]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(LANGUAGES), st.integers(0, 20)), min_size=1, max_size=80)
)
def test_every_prefix_is_balanced_over_cells(rows: list[tuple[str, str, int]]) -> None:
    items = [item(str(i), language, f"g{group}", task) for i, (task, language, group) in enumerate(rows)]
    order = balanced(items)
    assert sorted(order) == list(range(len(items)))
    total = Counter((one.task, one.language) for one in items)
    seen: Counter[tuple[str, str]] = Counter()
    # By rank alone a cell is within one of its share of what the keys say; the prefix adds the others' rounding.
    bound = 1 + len(total) / 2
    for count, index in enumerate(order, 1):
        seen[items[index].task, items[index].language] += 1
        for cell, size in total.items():
            assert abs(seen[cell] - size * count / len(items)) <= bound


@pytest.mark.parametrize("count", [60, 200])
def test_a_prefix_of_templates_is_balanced_over_languages_and_over_templates(
    count: int,
) -> None:
    items = templates(count)
    order = balanced(items)
    for first in range(1, len(items) + 1):
        languages = Counter(items[index].language for index in order[:first])
        assert max(languages.values()) - min((languages[code] for code in LANGUAGES), default=0) <= 2
    groups = [items[index].group for index in order[:count]]
    # Up to what rounding moves across the borders of the Latin square.
    assert len(set(groups)) >= count - len(LANGUAGES), "a sixth of six languages holds each template once"
    assert len({items[index].group for index in order[: count // 2]}) >= count // 2 - len(LANGUAGES)
    assert max(Counter(items[index].group for index in order[: 2 * count]).values()) <= 3


def test_tasks_and_languages_together() -> None:
    items = [
        item(f"{task}/{t}/{code}", code, f"{task}/{t}", task)
        for task, size in (("sum", 40), ("date", 20), ("list", 10))
        for t in range(size)
        for code in LANGUAGES
    ]
    order = balanced(items)
    for share in (0.1, 0.25, 0.5):
        first = [items[index] for index in order[: round(share * len(items))]]
        for task, size in (("sum", 240), ("date", 120), ("list", 60)):
            assert abs(sum(one.task == task for one in first) - share * size) <= 3
        for code in LANGUAGES:
            assert abs(sum(one.language == code for one in first) - share * 70) <= 3


def test_the_order_depends_on_the_items_and_not_on_their_order() -> None:
    items = templates(30)
    mixed = items[:]
    random.Random(3).shuffle(mixed)
    assert [items[i].id for i in balanced(items)] == [mixed[i].id for i in balanced(mixed)]
    assert balanced([]) == ()


def test_stage_ends() -> None:
    assert stage_ends(100, (0.25, 1.0)) == (25, 100)
    assert stage_ends(10, (0.25, 1.0)) == (3, 10)
    assert stage_ends(3, (0.1, 0.2, 1.0)) == (1, 1, 3)
    assert stage_ends(480, (0.1, 0.7, 1.0)) == (48, 336, 480), "no rounding up of what rounding made larger"
