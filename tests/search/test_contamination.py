"""Training prompts that are items too: exact and nearly, in any script; the demo world holds none."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from search._training.near import SHORTEST, jaccard, matches, normal, shingles
from search.check import check
from search.demo.world import write_world
from search.errors import UserError
from search.recipe import Recipe, load_recipe

LONG = {
    "en": "How many different ways are there to arrange the letters of the word mississippi in a row, and why?",
    "hi": "मिसिसिपी शब्द के अक्षरों को एक पंक्ति में कितने अलग-अलग तरीकों से व्यवस्थित किया जा सकता है और क्यों?",
    "ar": "كم عدد الطرق المختلفة لترتيب أحرف كلمة ميسيسيبي في صف واحد ولماذا هذا العدد بالذات صحيح؟",
    "zh": "把单词密西西比的字母排成一行一共有多少种不同的排列方法并且请你详细说明为什么是这样计算的",
}


def test_case_spaces_and_punctuation_do_not_matter() -> None:
    assert normal("¿Cómo  está—usted?") == normal("cómo está usted")
    assert normal("ﬁne Ⅳ") == "fineiv"
    assert normal("كِتَاب") != normal("كتاب"), "marks of vowels are letters of another word"


@pytest.mark.parametrize("language", LONG)
def test_a_text_with_a_few_words_changed_is_found(language: str) -> None:
    text = LONG[language]
    others = ["something else altogether that has nothing in common with the other texts at all", text]
    found = matches([f"{text} !!", text[: -len(text) // 16], "short"], others)
    assert [(match.left, match.right) for match in found] == [(0, 1), (1, 1)]
    assert found[0].likeness == 1.0
    likeness = jaccard(shingles(normal(text[: -len(text) // 16])), shingles(normal(text)))
    assert found[1].likeness == pytest.approx(likeness)
    assert 0.8 <= likeness < 1.0


def test_short_texts_are_compared_whole() -> None:
    assert not matches(["how to make a cake"], ["how to make a cave"])
    assert len(normal("how to make a cake")) < SHORTEST
    assert [match.likeness for match in matches(["How to make a cake?"], ["how to make a cake"])] == [1.0]


def test_pairs_above_the_threshold_are_hardly_missed() -> None:
    import numpy as np

    rng = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    found = total = 0
    for _ in range(60):
        text = "".join(rng.choice(letters, 120))
        place = int(rng.integers(20, 100))
        other = text[:place] + "x" + text[place + 1 :]
        total += jaccard(shingles(text), shingles(other)) >= 0.8
        found += len(matches([text], [other]))
    assert total > 45
    assert found >= total - 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def test_the_demo_world_trains_on_nothing_that_it_scores(world: Path) -> None:
    report = check(load_recipe(world))
    row = next(row for row in report.estimates if row.what == "scored too")
    assert row.amount == "none of 7,680 training rows (general, safety, over_refusal)"


def leaked(world: Path, allowance: str) -> Recipe:
    items = [json.loads(line) for line in (world.parent / "eval/harmful.jsonl").read_text("utf-8").splitlines()]
    rows: Sequence[dict[str, str]] = [
        {"prompt": item["prompt"].upper(), "response": item["answer"], "language": item["language"]}
        for item in items[:3]
    ]
    data = (world.parent / "data/safety.jsonl").read_text("utf-8")
    file = world.parent / "data/leaked.jsonl"
    file.write_text(data + "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    text = world.read_text("utf-8").replace("files: data/safety.jsonl}", f"files: data/leaked.jsonl{allowance}}}")
    recipe = world.with_name("leaked.yaml")
    recipe.write_text(text, "utf-8")
    return load_recipe(recipe)


@pytest.mark.slow  # two more checks of the whole world; that it is refused is in test_check_trainings.py too
def test_training_on_items_is_refused_unless_allowed(world: Path) -> None:
    with pytest.raises(UserError) as caught:
        check(leaked(world, ""))
    problem = str(caught.value.problems[0])
    assert "data.safety: prompts that are scored are trained on, of 3843 rows 3 the same and 0 nearly" in problem
    assert "contamination: allow" in problem
    report = check(leaked(world, ", contamination: allow"))
    assert any("3 the same" in str(warning) for warning in report.warnings)
