from pathlib import Path

import pytest

from search.errors import UserError
from search.recipe import load_recipe, parse_recipe

EXAMPLES = tuple(sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")))

# The full recipe of the design: every section, also those that come later.
DESIGN = """\
name: six-languages
base: CohereLabs/aya-23-8B             # hub id or directory
seed: 0
languages: [en, hi, ar, fr, es, ru]

data:                                   # loaded with `datasets`; columns are mapped once, here
  general: {path: json, files: data/general.jsonl}        # prompt, response, language
  safety:  {path: json, files: data/safety.jsonl}
  prefs:   {path: json, files: data/prefs.jsonl}           # prompt, chosen, rejected, language

experts:
  general:  {trainer: sft, mix: {general: 1.0}}
  safety:   {trainer: sft, mix: {safety: 0.7, general: 0.3},
             tune: {learning_rate: {low: 1.0e-6, high: 1.0e-4, log: true}}, trials: 8, scheduler: asha}
  "{objective}-{language}":             # a matrix makes one expert for each combination
    matrix: {objective: [general, safety], language: [en, hi, ar, fr, es, ru]}
    trainer: sft
    mix: {"{objective}": 1.0}
    languages: ["{language}"]
  aligned:  {trainer: dpo, from: general, mix: {prefs: 1.0}, lora: {r: 16}}
  bought:   {path: org/some-checkpoint}
baselines:
  mix15:    {trainer: sft, mix: {general: 0.85, safety: 0.15}, steps: match}   # same total compute

evaluators:
  general:      {kind: exact_match, data: eval/general.jsonl}
  safety:       {kind: refusal,     data: eval/harmful.jsonl}
  over_refusal: {kind: exact_match, data: eval/lookalikes.jsonl}

search:
  experts: [general, safety]
  methods: [linear, slerp, ties, dare_ties]
  coefficients: free                    # free | simplex | factorized (objective x language)
  layer_groups: 1                       # 1 = one set for the model; N groups; or named groups
  objectives: {general: max, safety: max}
  constraints: ["over_refusal >= base - 0.02", "min_language(general) >= base"]
  sampler: auto
  candidates: 96                        # over all methods
  stages: [0.25, 1.0]                   # share of the items; a candidate is dropped once clearly dominated

cluster:
  address: local                        # local | auto | ray://...
  evaluators: {actors: 2, cpus: 0.9, gpus: 0, engine: transformers}
  trainers: {workers: 1, cpus: 1, gpus: 0, zero: 2}
storage: runs/six-languages             # directory or fsspec URL
database: sqlite                        # sqlite (in the run) | postgresql://...
export: {picks: [knee, safest, best-general], dtype: bfloat16, shard: 5GB}
"""

NOT_YET = [
    (14, "experts.safety.scheduler", "not available yet: tuning of training settings"),
    (14, "experts.safety.trials", "not available yet: tuning of training settings"),
    (14, "experts.safety.tune", "not available yet: tuning of training settings"),
    (20, "experts.aligned.from", "not available yet: training from another expert"),
    (20, "experts.aligned.lora", "not available yet: LoRA experts"),
    (20, "experts.aligned.trainer", "not available yet: trainer dpo"),
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_a_recipe(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe.name == file.stem


def test_the_full_recipe_of_the_design_is_read_and_refused_for_what_comes_later_alone() -> None:
    with pytest.raises(UserError) as caught:
        parse_recipe(DESIGN)
    found = [(problem.line, problem.path, problem.rule) for problem in caught.value.problems]
    assert sorted(found, key=lambda row: row[0] or 0) == sorted(NOT_YET, key=lambda row: row[0])


def test_without_what_comes_later_the_design_is_a_recipe() -> None:
    lines = DESIGN.split("\n")
    kept = [line for line in lines if "aligned:" not in line and "tune:" not in line]
    text = "\n".join(kept).replace("general: 0.3},", "general: 0.3}}").replace("[0.25, 1.0]", "[1.0]")
    recipe = parse_recipe(text)
    assert list(recipe.experts)[2:4] == ["general-en", "general-hi"]
    assert len(recipe.experts) == 2 + 12 + 1
    assert recipe.search.experts == ("general", "safety")


def test_the_recipe_in_the_readme_is_one() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    recipe = parse_recipe(text.split("```yaml\n")[1].split("```")[0], file="README.md")
    assert recipe.search.experts == ("general", "safety")
