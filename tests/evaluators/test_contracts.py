"""What every evaluator promises; a new file in `evaluators/` is under test without an edit here.

The judges need a server and have the same promises tested in `judges/`.
"""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest

from evaluators._schema import build, kind_names, load_kind, options_of
from evaluators._transformers import TransformersEngine, transformers_engine
from evaluators._types import Asking, Bringing, Evaluator, Item

from . import samples

KINDS = tuple(name for name in kind_names() if not name.startswith("judge_"))


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return transformers_engine(str(samples.DEMO), dtype="float32", device="cpu", batch_tokens=300)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluator, list[Item]]:
    """An evaluator and items for it."""
    kind = request.param
    options = samples.OPTIONS[kind](tmp_path_factory.mktemp(kind)) if kind in samples.OPTIONS else {}
    evaluator = build(kind, options)
    if isinstance(evaluator, Bringing):
        return evaluator, list(evaluator.items(tuple(samples.BANK)))
    return evaluator, samples.ITEMS.get(kind, samples.items)()


def test_kind_is_the_file_name_and_the_version_says_what_counts(case: tuple[Evaluator, list[Item]]) -> None:
    evaluator, _ = case
    assert evaluator.kind in KINDS
    assert evaluator.version.startswith(f"{evaluator.kind}-")


def test_gold_grades_one_and_empty_grades_zero(case: tuple[Evaluator, list[Item]]) -> None:
    evaluator, items = case
    for item in items:
        assert evaluator.grade(item, evaluator.gold(item)) == 1.0
        assert evaluator.grade(item, evaluator.empty(item)) == 0.0


def test_good_items_pass_the_check_and_say_what_they_need(case: tuple[Evaluator, list[Item]]) -> None:
    evaluator, items = case
    evaluator.check(items)
    assert isinstance(evaluator, Asking)
    for item in items:
        room = evaluator.room(item)
        assert room.new_tokens >= 0
        assert all(isinstance(text, str) for text in room.continuations)


def test_one_value_in_range_per_item(case: tuple[Evaluator, list[Item]], engine: TransformersEngine) -> None:
    evaluator, items = case
    before = engine.tokens
    values = evaluator.score(engine, items)
    assert isinstance(values, tuple)
    assert len(values) == len(items)
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values)
    assert engine.tokens > before
    assert evaluator.score(engine, []) == ()


def test_values_depend_on_their_own_item_only(case: tuple[Evaluator, list[Item]], engine: TransformersEngine) -> None:
    evaluator, items = case
    values = dict(zip(items, evaluator.score(engine, items), strict=True))
    shuffled = random.Random(0).sample(items, len(items))
    # Batches of another shape round in another way; nothing else may differ.
    assert evaluator.score(engine, shuffled) == pytest.approx([values[item] for item in shuffled], abs=1e-5)
    alone = items[:: max(1, len(items) // 5)]
    assert [evaluator.score(engine, [item])[0] for item in alone] == pytest.approx([values[i] for i in alone], abs=1e-5)


def test_travels_by_pickle(case: tuple[Evaluator, list[Item]]) -> None:
    copy = pickle.loads(pickle.dumps(case[0]))
    assert copy == case[0]
    assert copy.version == case[0].version


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_typed(kind: str) -> None:
    for option in options_of(load_kind(kind)):
        assert option.annotation is not Any, f"{kind}: {option.name} has no type"
