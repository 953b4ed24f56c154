"""What `check` finds wrong with trainings before any is started, and the kinds of data that it reads."""

from pathlib import Path
from typing import Any

import pytest

from search.check import check
from tests.search.test_check import ROWS, problems_of, recipe_of, texts, write_rows
from tests.search.test_check import world as world  # the fixture

GENERAL = "general: {mix: {general: 1.0}, steps: 10, batch: 4, max_length: 32, dtype: float32}"
PAIRS = [{"prompt": f"q{n}", "chosen": "r", "rejected": "s", "language": ("en", "fr")[n % 2]} for n in range(6)]
CLUSTER = "evaluators: {actors: 1, cpus: 0.5}"


def dpo(**changes: str) -> tuple[str, str]:
    return GENERAL, GENERAL.replace("{mix: {general: 1.0}", "{trainer: dpo, mix: {general: 1.0}")


REFUSED: list[tuple[tuple[tuple[str, str], ...], list[dict[str, Any]] | None, str]] = [
    (
        (
            dpo(),
            ("{safety: 0.5, general: 0.5}, steps: 10", "{safety: 1.0}, steps: 10"),
            ("general: 0.5, safety: 0.5", "safety: 1.0"),
        ),
        [{key: value for key, value in row.items() if key != "rejected"} for row in PAIRS],
        "recipe.yaml:5: data.general: no column for rejected (dpo), got 'rejected'",
    ),
    (
        (
            dpo(),
            ("{safety: 0.5, general: 0.5}, steps: 10", "{safety: 1.0}, steps: 10"),
            ("general: 0.5, safety: 0.5", "safety: 1.0"),
        ),
        [*PAIRS, {**PAIRS[0], "rejected": ""}],
        "recipe.yaml:5: data.general: 1 rows have no rejected, the first is row 7; fill them in or remove them",
    ),
    (
        ((GENERAL, GENERAL.replace("{mix", "{lora: {targets: [q_proj]}, mix")),),
        None,
        "recipe.yaml:8: experts.general.lora.targets: no module of the model ends in 'q_proj' (lora.targets); ",
    ),
    (
        ((GENERAL, GENERAL.replace(" max_length: 32,", "")),),
        None,
        "recipe.yaml:8: experts.general: max_length must be at most 64, the positions of the base, got 2048; write max",
    ),
    (
        ((CLUSTER, "trainers: {deepspeed: nowhere.json}"),),
        None,
        "recipe.yaml:21: cluster.trainers.deepspeed: the DeepSpeed configuration ",
    ),
    (
        ((CLUSTER, "trainers: {workers: 4, cpus: 64}"),),
        None,
        "recipe.yaml:21: cluster.trainers.cpus: this machine can ne",
    ),
    (
        ((GENERAL, GENERAL + "\n  soup: {merge: {method: ties, weights: {general: 1.0}, parameters: {density: 3}}}"),),
        None,
        "recipe.yaml:9: experts.soup.merge: ties: density must lie in [0, 1], got 3",
    ),
    (
        (("search:\n", "searches:\n  first: {experts: [general, safety, bought], methods: [slerp]}\nsearch:\n"),),
        None,
        "recipe.yaml:17: searches.first.methods[0]: slerp merges exactly 2 experts; searches.first.experts names 3",
    ),
]


@pytest.mark.parametrize(("edits", "rows", "message"), REFUSED, ids=[message[13:60] for _, _, message in REFUSED])
def test_each_is_one_line_and_nothing_is_written(
    world: Path, edits: tuple[tuple[str, str], ...], rows: list[dict[str, Any]] | None, message: str
) -> None:
    if rows is not None:
        write_rows(world / "data" / "general.jsonl", rows)
    found = texts(world, problems_of(recipe_of(world, *edits), world / "run"))
    assert found[0].startswith(message)
    assert "\n" not in found[0]
    assert not (world / "run").exists()


def test_data_is_read_from_parquet_too(world: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(ROWS).to_parquet(str(world / "data" / "general.parquet"))
    source = "{path: parquet, files: data/general.parquet}"
    report = check(recipe_of(world, ("{path: json, files: data/general.jsonl}", source)))
    assert any(row.what == "scored too" and "none of" in row.amount for row in report.estimates)


def test_conversations_are_read_and_held_against_the_items(world: Path) -> None:
    turns = [{"role": "user", "content": "P1 "}, {"role": "assistant", "content": "r"}]
    rows = [{"messages": turns, "language": language} for language in ("en", "fr")]
    write_rows(world / "data" / "general.jsonl", rows)
    edits = (
        ("{safety: 0.5, general: 0.5}, steps: 10", "{safety: 1.0}, steps: 10"),
        ("general: 0.5, safety: 0.5", "safety: 1.0"),
    )
    found = texts(world, problems_of(recipe_of(world, *edits)))
    assert "of 2 rows 2 the same and 0 nearly as items of general (search)" in found[0]


def test_trials_and_earlier_searches_are_part_of_the_estimate(world: Path) -> None:
    tuned = GENERAL.replace("{mix", "{tune: {learning_rate: [1.0e-4, 1.0e-3]}, trials: 5, mix")
    searches = "searches:\n  first: {experts: [general, safety], candidates: 7}\nsearch:\n"
    report = check(recipe_of(world, (GENERAL, tuned), ("search:\n", searches)))
    rows = {row.what: row.amount for row in report.estimates if row.what}
    assert rows["to train"] == "3 models, 80 steps, 320 sequences; 5 trials are part of it"
    assert rows["to score"].endswith("5 models as they are; 7 merges in earlier searches")
