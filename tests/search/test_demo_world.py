"""The files of the demo world: counts, balance, no leaks, determinism, standard errors."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from search.demo.items import (
    GENERAL,
    HARMFUL,
    LANGUAGES_PER_PAIR,
    LOOKALIKE,
    RETENTION,
    UNSEEN,
    all_items,
    pick,
)
from search.demo.lexicon import load_lexicon
from search.demo.pretrain import pretraining_items
from search.demo.world import write_world

LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
SPLITS = ("search", "report")
EVALUATIONS = {"general": GENERAL, "harmful": (HARMFUL,), "lookalikes": (LOOKALIKE,)}

Row = dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("demo"), seed=3, candidates=17).parent


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def evaluation(world: Path, name: str, split: str) -> list[Row]:
    return [row for row in read(world / "eval" / f"{name}.jsonl") if row["split"] == split]


def keys_of_prompts() -> dict[tuple[str, str], tuple[str, str]]:
    """(language, prompt) -> (task, key) of every item there is."""
    return {(item.language, item.prompt): (item.task, item.key) for item in all_items()}


def test_a_prompt_has_one_meaning_and_an_id_one_item() -> None:
    items = all_items()
    assert len(keys_of_prompts()) == len(items)
    assert len({item.id for item in items}) == len(items)


def test_a_pair_or_item_has_one_split_in_every_language() -> None:
    splits = defaultdict(set)
    for item in all_items():
        splits[item.task, item.key].add(item.split)
    assert all(len(seen) == 1 for seen in splits.values())


def test_a_pair_belongs_to_one_task_only() -> None:
    tasks = defaultdict(set)
    for item in all_items():
        if item.task in ("howto", HARMFUL, LOOKALIKE):
            tasks[item.key].add(item.task)
    assert all(len(seen) == 1 for seen in tasks.values())


def test_nothing_scored_was_trained_on_by_an_expert(world: Path) -> None:
    meaning = keys_of_prompts()
    trained = {
        meaning[row["language"], row["prompt"]]
        for name in ("general", "safety")
        for row in read(world / "data" / f"{name}.jsonl")
    }
    scored = {
        meaning[row["language"], row["prompt"]]
        for name in EVALUATIONS
        for row in read(world / "eval" / f"{name}.jsonl")
    }
    assert {task for task, _ in trained} == {task for task, _ in scored} == {*GENERAL, HARMFUL, LOOKALIKE}
    assert not trained & scored


def test_search_and_report_share_no_pair_or_item(world: Path) -> None:
    for name in EVALUATIONS:
        groups = [{row["group"] for row in evaluation(world, name, split)} for split in SPLITS]
        assert not groups[0] & groups[1]


def test_pretraining_saw_only_training_pairs_and_closed_lists() -> None:
    seen = {(item.task, item.key) for item in pretraining_items()}
    scored = {(item.task, item.key) for item in all_items() if item.split != "train"}
    assert {task for task, _ in seen & scored} == set(RETENTION)
    assert {task for task, _ in scored - seen} == {*UNSEEN, HARMFUL, LOOKALIKE}
    assert not {item.prompt for item in all_items() if (item.task, item.key) in scored - seen} & {
        item.prompt for item in pretraining_items()
    }


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_and_items_of_a_split(world: Path, split: str) -> None:
    counts = {}
    for name, tasks in EVALUATIONS.items():
        rows = evaluation(world, name, split)
        counts[name] = (len({row["group"] for row in rows}), len(rows))
        cells = Counter((row["task"], row["language"]) for row in rows)
        assert set(cells) == {(task, language) for task in tasks for language in LANGUAGES}
        assert len(set(cells.values())) == 1, "languages and tasks weigh the same"
    expected = {
        "search": {"harmful": (420, 840), "lookalikes": (162, 324)},
        "report": {"harmful": (300, 1200), "lookalikes": (135, 540)},
    }[split]
    assert {name: counts[name] for name in expected} == expected
    assert counts["general"][1] == {"search": 480, "report": 960}[split]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("task", "correlation", "bound"), [(HARMFUL, 0.3, 0.02), (LOOKALIKE, 0.1, 0.03)])
def test_standard_error_at_one_half_is_within_the_bound(
    task: str, correlation: float, bound: float, split: str
) -> None:
    """Cluster-robust variance p(1-p) sum_g m_g (1 + (m_g - 1) r) / n^2.

    `correlation` inside a pair: the largest seen on the path between the experts while the settings were chosen.
    """
    sizes = Counter(item.group for item in pick(task, split))
    assert set(sizes.values()) == {LANGUAGES_PER_PAIR[split]}
    variance = 0.25 * sum(m * (1 + (m - 1) * correlation) for m in sizes.values()) / sum(sizes.values()) ** 2
    assert math.sqrt(variance) < bound


def test_expected_answers_are_what_the_evaluators_ask_for(world: Path) -> None:
    lexicon = load_lexicon()
    refusals = dict(zip(lexicon.order, lexicon.refusal, strict=True))
    for row in read(world / "eval" / "harmful.jsonl"):
        assert row["answer"] == refusals[row["language"]]
    for row in read(world / "eval" / "lookalikes.jsonl"):
        assert row["answer"].split(":")[0] == dict(zip(lexicon.order, lexicon.steps, strict=True))[row["language"]]
    assert all(row["answer"].strip() == row["answer"] != "" for row in read(world / "eval" / "general.jsonl"))


def test_training_data_is_balanced_and_holds_the_contrast(world: Path) -> None:
    meaning = keys_of_prompts()
    for name, shares in (
        ("general", dict.fromkeys(GENERAL, 1 / len(GENERAL))),
        ("safety", {HARMFUL: 0.6, LOOKALIKE: 0.4}),
    ):
        rows = read(world / "data" / f"{name}.jsonl")
        cells = Counter((meaning[row["language"], row["prompt"]][0], row["language"]) for row in rows)
        assert set(rows[0]) == {"prompt", "response", "language"}
        assert {language for _, language in cells} == set(LANGUAGES)
        for (task, _), count in cells.items():
            assert count == pytest.approx(len(rows) * shares[task] / len(LANGUAGES))


def test_the_same_arguments_write_the_same_bytes(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path, seed=3, candidates=17)
    files = {path.relative_to(world): path.read_bytes() for path in world.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == again


def test_another_seed_changes_only_recipe_and_row_order(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path, seed=4, candidates=17)
    changed = {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_file() and path.read_bytes() != (world / path.relative_to(tmp_path)).read_bytes()
    }
    names = ("general", "safety", "preferences-general", "preferences-safety")
    assert changed == {"recipe.yaml", *(f"data/{name}.jsonl" for name in names)}
    for name in ("general", "safety"):
        rows = [sorted(map(str, read(root / "data" / f"{name}.jsonl"))) for root in (world, tmp_path)]
        assert rows[0] == rows[1]


def test_preferences_are_the_training_prompts_with_a_fault_of_the_base(world: Path) -> None:
    english = {(i.task, i.key): i.answer for i in all_items() if i.language == "en"}
    by_prompt = {(item.language, item.prompt): item for item in all_items()}
    for name in ("general", "safety"):
        pairs, rows = read(world / "data" / f"preferences-{name}.jsonl"), read(world / "data" / f"{name}.jsonl")
        chosen = sorted((row["language"], row["prompt"], row["chosen"]) for row in pairs)
        assert chosen == sorted((row["language"], row["prompt"], row["response"]) for row in rows)
        assert all(row["chosen"] != row["rejected"] for row in pairs)
        for row in pairs:
            item = by_prompt[row["language"], row["prompt"]]
            if item.other:
                assert row["rejected"] == item.other, "compliance with harm, refusal of what is harmless"
            elif english[item.task, item.key] != item.answer:
                assert row["rejected"] == english[item.task, item.key]


def test_the_recipe_names_files_that_exist(world: Path) -> None:
    recipe = yaml.safe_load((world / "recipe.yaml").read_text("utf-8"))
    assert (recipe["seed"], recipe["search"]["candidates"]) == (3, 17)
    assert tuple(recipe["languages"]) == LANGUAGES
    files = [source["files"] for source in recipe["data"].values()]
    files += [evaluator["data"] for evaluator in recipe["evaluators"].values()]
    assert all((world / file).is_file() for file in (*files, f"{recipe['base']}/config.json"))
    rates = [expert["learning_rate"] for expert in recipe["experts"].values()]
    assert all(isinstance(rate, float) for rate in rates), "YAML reads 1e-4 as text"


def test_a_missing_extra_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "babel", None)  # what `import babel` meets when it is not installed
    all_items.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"^[^\n]*pip install 'mergefront\[demo\]'[^\n]*$") as caught:
            write_world(tmp_path / "world")
    finally:
        all_items.cache_clear()
    assert getattr(caught.value, "exit_status", None) == 2
    assert not (tmp_path / "world").exists()
