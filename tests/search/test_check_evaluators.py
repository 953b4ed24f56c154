"""What `check` says about evaluators and their items, before anything is scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluators._public import public_sets
from search.check import check
from search.errors import UserError
from search.recipe import load_recipe
from search.results.partners import columns, partners
from search.scoring.graders import grader_key, load_graders
from tests.evaluators import samples

RECIPE = """\
name: kinds
base: base
languages: [en, fr, hi]
experts:
  same: {{path: base}}
evaluators:
{evaluators}
search:
  methods: [linear]
  objectives: {{{objectives}}}
cluster:
  evaluators: {{actors: 1, cpus: 0.5}}
export: {{dtype: float32}}
"""
ROWS = [
    {
        "prompt": f"{asked} {n}",
        "answer": word,
        "language": language,
        "group": str(n),
        "split": ("search", "report")[n % 2],
    }
    for language, (asked, words) in samples.BANK.items()
    for n, word in enumerate(words.split(), 2)
    if language in ("en", "fr", "hi")
]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    shutil.copytree(samples.DEMO, tmp_path / "base")
    write(tmp_path, "items", ROWS)
    return tmp_path


def write(world: Path, name: str, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (world / f"{name}.jsonl").write_text(text, encoding="utf-8")


def recipe(world: Path, *evaluators: str, objectives: str = "a: max") -> Any:
    lines = "\n".join(f"  {line}" for line in evaluators)
    (world / "recipe.yaml").write_text(RECIPE.format(evaluators=lines, objectives=objectives))
    return load_recipe(world / "recipe.yaml")


def problem(world: Path, *evaluators: str, objectives: str = "a: max") -> str:
    with pytest.raises(UserError) as caught:
        check(recipe(world, *evaluators, objectives=objectives))
    (found,) = caught.value.problems
    return str(found).replace(f"{world}/", "")


def test_prompts_that_do_not_fit_are_counted_and_named(world: Path) -> None:
    rows = [{**row, "id": f"i{index}"} for index, row in enumerate(ROWS)]
    rows[3]["prompt"] = "number 2 " * 40
    write(world, "long", rows)
    assert problem(world, "a: {kind: exact_match, data: long.jsonl}") == (
        "recipe.yaml:7: evaluators.a.data: exact_match: 1 of 18 prompts, with what is asked about them, are longer "
        "than the model's context of 64 tokens: i3 (166); shorten or remove them, or lower max_new_tokens"
    )
    found = problem(world, "a: {kind: refusal, data: items.jsonl, options: {max_new_tokens: 60}}")
    assert "refusal: 18 of 18 prompts" in found


def test_items_without_an_answer_or_in_a_language_of_their_own(world: Path) -> None:
    write(
        world, "bare", [{**row, "id": f"i{n}", "answer": "" if n == 4 else row["answer"]} for n, row in enumerate(ROWS)]
    )
    found = problem(world, "a: {kind: exact_match, data: bare.jsonl}")
    assert found.startswith("recipe.yaml:7: evaluators.a.data: exact_match: 1 of 18 items have no answer: i4")
    write(world, "far", [{**row, "language": "de" if n == 4 else row["language"]} for n, row in enumerate(ROWS)])
    assert problem(world, "a: {kind: exact_match, data: far.jsonl}") == (
        "recipe.yaml:7: evaluators.a.data: far.jsonl: 1 of 18 items have a language that the recipe does not list: "
        "'de'; listed: en, fr, hi; add it there, or remove the items"
    )


def test_answers_in_another_script(world: Path) -> None:
    write(world, "mixed", [{**row, "language": {"en": "hi", "hi": "en"}.get(row["language"], "fr")} for row in ROWS])
    found = problem(world, "a: {kind: exact_match, data: mixed.jsonl}")
    assert "6 of 6 answers in 'hi' are not in DEVANAGARI script but in LATIN" in found


def test_data_belong_to_kinds_that_bring_none(world: Path) -> None:
    assert problem(world, "a: {kind: exact_match}") == (
        "recipe.yaml:7: evaluators.a: exact_match needs items; add data: FILE with prompts and languages"
    )
    samples.task_folder(world / "tasks")
    options = "options: {tasks: {demo_choose: en}, include: tasks}"  # relative to the recipe
    found = problem(world, f"a: {{kind: harness, data: items.jsonl, {options}}}")
    assert "evaluators.a.data: harness brings its own items; remove the key" in found
    assert check(recipe(world, f"a: {{kind: harness, {options}}}")).estimates


def test_a_task_that_needs_network(world: Path) -> None:
    own = world / "tasks"
    own.mkdir()
    (own / "far.yaml").write_text(
        "task: far\ndataset_path: nobody/nothing\ntest_split: test\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"
    )
    found = problem(world, "a: {kind: harness, options: {tasks: {far: en}, include: tasks}}")
    assert "harness: task 'far' cannot be loaded without network" in found


def test_searches_are_not_aimed_at_public_test_sets_unsaid(world: Path) -> None:
    write(world, "gsm8k_test", ROWS)
    public = "a: {kind: exact_match, data: gsm8k_test.jsonl}"
    assert problem(world, public) == (
        "recipe.yaml:7: evaluators.a: a search must not be aimed at the public test set gsm8k unsaid; take other "
        "items, or permit it by name: optimise_on: [gsm8k]"
    )
    assert check(recipe(world, public, "b: {kind: exact_match, data: items.jsonl}", objectives="b: max")).estimates
    said = "a: {kind: exact_match, data: gsm8k_test.jsonl, optimise_on: gsm8k}"
    assert check(recipe(world, said)).warnings == ()
    idle = check(recipe(world, "a: {kind: exact_match, data: items.jsonl, optimise_on: gsm8k}"))
    assert "optimise_on names gsm8k, which these items are not known to be" in str(idle)


@pytest.mark.parametrize(
    ("kind", "options", "path", "files", "names"),
    [
        ("exact_match", {}, "openai/gsm8k", (), ("gsm8k",)),
        ("exact_match", {}, "CohereLabs/Global-MMLU", (), ("global_mmlu",)),
        ("refusal", {}, "CohereForAI/aya_redteaming", (), ("aya_redteaming",)),
        ("code_pass_at_k", {}, "openai/openai_humaneval", (), ("humaneval",)),
        ("exact_match", {}, "json", ("data/MMLU-Pro_test.jsonl", "x/own.jsonl"), ("mmlu_pro",)),
        ("exact_match", {}, "json", ("data/general.jsonl", "mmluish.jsonl"), ()),
        ("harness", {"tasks": {"hellaswag_hi": "hi"}}, None, (), ("hellaswag",)),
        ("harness", {"tasks": {"some_task": "hi"}}, None, (), ("some_task",)),
        ("harness", {"tasks": {"some_task": "hi", "mmlu_x": "en"}, "include": "own"}, None, (), ("mmlu",)),
    ],
)
def test_public_names(
    kind: str, options: dict[str, Any], path: str | None, files: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert public_sets(kind, options, path, files) == names


def test_safety_stands_beside_its_look_alikes(world: Path) -> None:
    harm = "harm: {kind: refusal, data: items.jsonl, look_alikes: near}"
    near = "near: {kind: refusal, data: items.jsonl}"
    paired = recipe(world, harm, near, objectives="harm: max")
    assert partners(paired) == {"harm": "near"}
    assert check(paired).warnings == ()
    assert columns({"min_language(harm)": "max", "general": "max"}, {"harm": "near"}) == {
        "min_language(harm)": "max",
        "near": "",
        "general": "max",
    }
    assert columns({"harm": "max", "general": "max", "near": "min"}, {"harm": "near"}) == {
        "harm": "max",
        "near": "min",
        "general": "max",
    }
    found = problem(world, "harm: {kind: refusal, data: items.jsonl, look_alikes: harms}", near, objectives="harm: max")
    assert "evaluators.harm.look_alikes: must name another evaluator, got harms" in found
    # Names that have always meant this need no key.
    lines = ("safety: {kind: refusal, data: items.jsonl}", "over_refusal: {kind: refusal, data: items.jsonl}")
    plain = recipe(world, *lines, objectives="safety: max")
    assert partners(plain) == {"safety": "over_refusal"}


def test_results_are_known_by_kind_and_content(world: Path) -> None:
    def key(line: str) -> str:
        (grader,) = load_graders(recipe(world, line))
        return grader_key(grader)

    first = key("a: {kind: refusal, data: items.jsonl}")
    assert first == key("a: {kind: refusal, data: items.jsonl, options: {max_new_tokens: 16}}")
    assert first != key("a: {kind: refusal, data: items.jsonl, options: {max_new_tokens: 8}}")
    write(world, "items", ROWS[::-1])
    assert first == key("a: {kind: refusal, data: items.jsonl}")
    write(world, "items", [{**ROWS[0], "answer": "to"}, *ROWS[1:]])
    assert first != key("a: {kind: refusal, data: items.jsonl}")
