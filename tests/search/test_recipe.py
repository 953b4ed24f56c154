import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from search._recipe.lock import differences
from search.errors import EXIT_BAD_INPUT, Problem, UserError
from search.recipe import ExistingExpert, Recipe, TrainedBaseline, TrainedExpert, load_recipe, parse_recipe

VALID = """\
name: small
base: models/base
seed: 3
languages: [en, fr, "no"]
data:
  general: {path: json, files: data/general.jsonl}
  safety: {path: json, files: [data/a.jsonl, data/b.jsonl], columns: {prompt: question}}
experts:
  general: {trainer: sft, mix: {general: 1.0}, steps: 60, batch: 64}
  safety: {mix: {safety: 0.7, general: 0.3}, steps: 30, batch: 32, learning_rate: 1e-3, languages: [fr]}
  "{lang}-only":
    matrix: {lang: [en, fr]}
    mix: {general: 1}
    languages: ["{lang}"]
  bought: {path: models/bought}
baselines:
  mixed: {mix: {general: 0.5, safety: 0.5}, batch: 64}
evaluators:
  general: {kind: exact_match, data: eval/general.jsonl}
  safety: {kind: refusal, data: {path: csv, files: eval/h.csv, columns: {answer: gold}}}
search:
  experts: [general, safety]
  methods: [linear, ties]
  objectives: {general: max, safety: max}
  constraints: ["min_language(general) >= base - 0.02"]
  candidates: 10
cluster:
  evaluators: {actors: 2}
export: {picks: [knee, best-safety, "#12"], shard: 5GB}
"""


def edited(old: str, new: str) -> str:
    assert VALID.count(old) == 1, old
    return VALID.replace(old, new)


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as caught:
        parse_recipe(text, file="r.yaml")
    return caught.value.problems


def test_a_recipe_reads_as_written_with_its_defaults() -> None:
    recipe = parse_recipe(VALID, directory="/somewhere")
    assert list(recipe.experts) == ["general", "safety", "en-only", "fr-only", "bought"]
    general, safety, bought = (recipe.experts[name] for name in ("general", "safety", "bought"))
    assert isinstance(general, TrainedExpert)
    assert isinstance(safety, TrainedExpert)
    assert bought == ExistingExpert(path="models/bought")
    assert (general.seed, general.languages, general.learning_rate) == (3, ("en", "fr", "no"), 1e-5)
    assert (safety.languages, safety.learning_rate, safety.trainer) == (("fr",), 1e-3, "sft")
    assert recipe.data["safety"].files == ("data/a.jsonl", "data/b.jsonl")
    data = recipe.evaluators["general"].data
    assert data is not None
    assert data.model_dump() == {
        "path": "json",
        "files": ("eval/general.jsonl",),
        "columns": {},
        "split": "train",
    }
    assert recipe.search.constraints[0].offset == -0.02
    assert (recipe.search.sampler, recipe.search.coefficients, recipe.search.stages) == ("auto", "free", (1.0,))
    assert recipe.export.shard == 5 * 10**9
    assert recipe.storage == "runs/small"
    assert recipe.directory == Path("/somewhere")


def test_search_merges_all_experts_if_it_names_none() -> None:
    recipe = parse_recipe(edited("  experts: [general, safety]\n", ""))
    assert recipe.search.experts == ("general", "safety", "en-only", "fr-only", "bought")


def test_a_matched_baseline_sees_the_sequences_of_all_merged_experts() -> None:
    recipe = parse_recipe(VALID)
    mixed = recipe.baselines["mixed"]
    assert isinstance(mixed, TrainedBaseline)
    assert mixed.steps == "match"
    assert recipe.steps("mixed") == (60 * 64 + 30 * 32) // 64 == 75
    assert recipe.steps("safety") == 30


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = VALID.replace("seed: 3", "sed: 3").replace("steps: 60", "steps: 0").replace("[linear, ties]", "[linaer]")
    assert [(problem.line, problem.path) for problem in problems_of(text)] == [
        (3, "sed"),
        (9, "experts.general.steps"),
        (23, "search.methods[0]"),
    ]


def test_a_slip_in_a_matrix_is_said_once() -> None:
    found = problems_of(edited("mix: {general: 1}\n", "mix: {general: 1}\n    batch: 0\n"))
    assert [problem.path for problem in found] == ["experts.{lang}-only.batch"]


def test_a_slip_in_shared_settings_is_said_once() -> None:
    text = edited("  bought:", "  one: &shared {mix: {general: 1}, step: 5}\n  two: {<<: *shared, batch: 8}\n  bought:")
    assert [(problem.line, problem.path) for problem in problems_of(text)] == [(15, "experts.one.step")]


def test_a_baseline_needs_trained_experts_to_match() -> None:
    text = edited("  experts: [general, safety]\n", "  experts: [bought]\n")
    assert str(problems_of(text)[0]).startswith("r.yaml:17: baselines.mixed: no expert of the search is trained here")


def test_the_fingerprint_changes_with_what_changes_results_and_only_with_that() -> None:
    same = [
        ("name: small", "name: other"),
        ("candidates: 10", "candidates: 500"),
        ("actors: 2", "actors: 7"),
        ("best-safety", "safest"),
        ("5GB", "1GB"),
        ("seed: 3", "storage: elsewhere\nseed: 3"),
        ("steps: 60", "steps: 60, save_every: 5"),
        ("{trainer: sft, mix: {general: 1.0}", "{mix: {general: 1.0}"),
    ]
    different = [
        ("seed: 3", "seed: 4", ("baselines.mixed.seed", "seed")),
        ("steps: 60", "steps: 61", ("experts.general.steps",)),
        ("base: models/base", "base: models/other", ("base",)),
        ("[linear, ties]", "[ties, linear]", ("search.methods",)),
        ("base - 0.02", "base - 0.03", ("search.constraints",)),
        ('[knee, best-safety, "#12"]', "[knee], dtype: float32", ("export.dtype",)),
        ("  bought: {path: models/bought}\n", "", ("experts.bought",)),
        ("{safety: 0.7, general: 0.3}", "{general: 0.3, safety: 0.7}", ("experts.safety.mix",)),
    ]
    recipe = parse_recipe(VALID)
    for old, new in same:
        assert parse_recipe(edited(old, new)).fingerprint() == recipe.fingerprint(), new
    for old, new, keys in different:
        other = parse_recipe(edited(old, new))
        assert other.fingerprint() != recipe.fingerprint(), new
        found = differences(recipe.model_dump(mode="json"), other.model_dump(mode="json"))
        assert set(keys) <= set(found)


def test_a_recipe_survives_its_lock_and_a_pickle() -> None:
    recipe = parse_recipe(VALID, directory="/x")
    again = Recipe.model_validate(recipe.lock()["recipe"])
    assert again.model_dump(mode="json") == recipe.model_dump(mode="json")
    assert again.fingerprint() == recipe.lock()["fingerprint"]
    copy = pickle.loads(pickle.dumps(recipe))
    assert copy.model_dump() == recipe.model_dump()
    assert (copy.directory, copy.file) == (recipe.directory, recipe.file)


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_recipe(VALID).search.candidates = 5


def test_paths_start_at_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "deep" / "r.yaml").write_text(VALID)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("deep/r.yaml")
    assert recipe.directory == tmp_path / "deep"
    assert recipe.resolve("../models/base") == str(tmp_path / "models" / "base")
    assert recipe.resolve("./none") == str(tmp_path / "deep" / "none")
    assert recipe.resolve("org/some-model") == "org/some-model"
    assert recipe.source(recipe.data["general"]).files == (str(tmp_path / "deep" / "data" / "general.jsonl"),)


def test_the_copy_in_a_run_directory_means_the_same_files(tmp_path: Path) -> None:
    import json

    (tmp_path / "run").mkdir()
    recipe = parse_recipe(VALID, directory=tmp_path / "home")
    (tmp_path / "run" / "recipe.yaml").write_text(VALID)
    (tmp_path / "run" / "recipe.lock.json").write_text(json.dumps(recipe.lock()))
    assert load_recipe(tmp_path / "run").directory == tmp_path / "home"
    with pytest.raises(UserError, match=r"is a directory without recipe\.yaml"):
        load_recipe(tmp_path)


def test_errors_pickle_and_end_with_status_2() -> None:
    error = UserError([Problem("f", 1, "a.b", "must be x", "y", "write x"), Problem("", None, "", "second")])
    copy: Any = pickle.loads(pickle.dumps(error))
    assert copy.problems == error.problems
    assert str(copy) == "f:1: a.b: must be x, got y; write x\nsecond"
    assert copy.exit_status == EXIT_BAD_INPUT == 2


def test_reading_a_recipe_loads_no_heavy_library() -> None:
    code = (
        "import sys, pathlib\nfrom search.recipe import parse_recipe\nparse_recipe(sys.stdin.read())\n"
        "print([m for m in ('torch', 'ray', 'datasets', 'transformers', 'numpy', 'optuna') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], input=VALID, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"
