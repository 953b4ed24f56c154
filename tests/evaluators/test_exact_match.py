from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators._errors import InputError
from evaluators._transformers import transformers_engine
from evaluators._types import Item
from evaluators.exact_match import _may_become, exact_match, normal

from .conftest import sentences

DEMO = Path(__file__).parents[2] / "search" / "demo" / "base"


def item(answer: str, prompt: str = "p") -> Item:
    return Item("1", prompt, answer, "en", "g", "", "search")


@pytest.mark.parametrize(
    ("answer", "response", "value"),
    [
        ("July 5", " July 5", 1.0),
        ("July 5", "July\n 5  ", 1.0),
        ("July 5", "july 5", 0.0),
        ("July 5", "July 5.", 0.0),
        ("étapes", "e\u0301tapes", 1.0),
        ("ज़हर", unicodedata.normalize("NFD", "ज़हर"), 1.0),
        ("a\u00a0b", "a b", 1.0),
        ("60%", "60", 0.0),
        ("", "", 0.0),
    ],
)
def test_grades(answer: str, response: str, value: float) -> None:
    assert exact_match().grade(item(answer), response) == value


def test_items_need_answers() -> None:
    rows = [item("x"), item(""), item("  ")]
    with pytest.raises(InputError, match=r"2 of 3 items have no answer: 1, 1; add it, or map the column"):
        exact_match().check(rows)


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_bad_limit(limit: int) -> None:
    with pytest.raises(InputError, match="whole number from 1 up"):
        exact_match(max_new_tokens=limit)


def test_version_follows_what_changes_values() -> None:
    assert exact_match().version == exact_match(max_new_tokens=5).version  # the limit plays no role there
    assert exact_match().version != exact_match(mode="generate").version
    assert exact_match(mode="generate").version != exact_match(mode="generate", max_new_tokens=5).version


TEXT = st.text(st.sampled_from("ab \n\u00a0e\u0301é가\u1100\u1161\u11a8\u09c7\u09beकी\u093cष\u0327"), max_size=10)


@given(TEXT, TEXT)
def test_a_text_that_can_become_the_answer_is_never_given_up(start: str, more: str) -> None:
    assert _may_become(start, normal(start + more))


@given(TEXT, TEXT)
def test_a_text_that_was_given_up_does_not_grade_one(start: str, wanted: str) -> None:
    if not _may_become(start, normal(wanted)):
        assert normal(start) != normal(wanted)


def test_generate_mode_equals_grading_full_responses(checkpoint: Path) -> None:
    engine = transformers_engine(str(checkpoint), dtype="float32", device="cpu")
    prompts = sentences(60, 4)
    full = engine.generate(prompts, max_new_tokens=8)
    # Half of the items ask for what the model says, the others for something else.
    rows = [
        item(text if row % 2 else f"{text} 7", prompt)
        for row, (prompt, text) in enumerate(zip(prompts, full, strict=True))
    ]
    kind = exact_match(mode="generate", max_new_tokens=8)
    values = kind.score(engine, rows)
    assert values == tuple(kind.grade(row, text) for row, text in zip(rows, full, strict=True))
    assert 10 < sum(values) < 50


def test_teacher_forced_equals_generate_on_the_demo_model() -> None:
    engine = transformers_engine(
        str(Path(__file__).parents[2] / "search" / "demo" / "base"), dtype="float32", device="cpu"
    )
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    rows = [item(name, f"number {number}") for number, name in enumerate(names)]
    rows += [item(name, f"number {number + 1}") for number, name in enumerate(names)]
    forced = exact_match().score(engine, rows)
    assert forced == exact_match(mode="generate").score(engine, rows)
    assert 0 < sum(forced) < len(rows)
