"""What every evaluator promises; a new file in `evaluators/` is under test without an edit here."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from evaluators._schema import build, kind_names, load_kind, options_of
from evaluators._transformers import TransformersEngine, transformers_engine
from evaluators._types import Evaluator, Item

from .conftest import sentences

LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru", "sw")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> TransformersEngine:
    return transformers_engine(str(checkpoint), dtype="float32", device="cpu", batch_tokens=300)


@pytest.fixture(params=kind_names())
def evaluator(request: pytest.FixtureRequest) -> Evaluator:
    return build(request.param, {})


def items(count: int = 40) -> list[Item]:
    answers = sentences(count, 11, longest=2)
    prompts = sentences(count, 12)
    return [
        Item(str(row), prompts[row], answers[row], LANGUAGES[row % len(LANGUAGES)], str(row // 3), "", "search")
        for row in range(count)
    ]


def test_kind_is_the_file_name(evaluator: Evaluator) -> None:
    assert evaluator.kind in kind_names()
    assert isinstance(evaluator.version, str)
    assert evaluator.version
    assert evaluator.version == build(evaluator.kind, {}).version


def test_gold_grades_one_and_empty_grades_zero(evaluator: Evaluator) -> None:
    for item in items():
        assert evaluator.grade(item, evaluator.gold(item)) == 1.0
        assert evaluator.grade(item, evaluator.empty(item)) == 0.0


def test_good_items_pass_the_check(evaluator: Evaluator) -> None:
    evaluator.check(items())


def test_one_value_in_range_per_item(evaluator: Evaluator, engine: TransformersEngine) -> None:
    values = evaluator.score(engine, items())
    assert isinstance(values, tuple)
    assert len(values) == len(items())
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values)
    assert evaluator.score(engine, []) == ()


def test_values_depend_on_their_own_item_only(evaluator: Evaluator, engine: TransformersEngine) -> None:
    rows = items()
    values = dict(zip(rows, evaluator.score(engine, rows), strict=True))
    shuffled = random.Random(0).sample(rows, len(rows))
    assert evaluator.score(engine, shuffled) == tuple(values[row] for row in shuffled)
    assert tuple(evaluator.score(engine, [row])[0] for row in rows) == tuple(values.values())


def test_travels_by_pickle(evaluator: Evaluator) -> None:
    copy = pickle.loads(pickle.dumps(evaluator))
    assert copy == evaluator
    assert copy.version == evaluator.version


def test_options_are_typed_and_optional() -> None:
    for name in kind_names():
        for option in options_of(load_kind(name)):
            assert option.annotation is not Any, f"{name}: {option.name} has no type"
            assert not option.required, f"{name}: {option.name} has no default"
