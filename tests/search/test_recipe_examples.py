from pathlib import Path

import pytest

from search._recipe.training import LoraSpec, Training
from search._recipe.tuning import TuneRange
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


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_a_recipe(file: Path) -> None:
    recipe = load_recipe(file)
    assert recipe.name == file.stem


def test_the_full_recipe_of_the_design_is_read() -> None:
    recipe = parse_recipe(DESIGN)
    assert list(recipe.experts)[2:4] == ["general-en", "general-hi"]
    assert len(recipe.experts) == 2 + 12 + 2
    assert recipe.search.experts == ("general", "safety")
    safety, aligned = recipe.entry("safety"), recipe.entry("aligned")
    assert isinstance(safety, Training)
    assert isinstance(aligned, Training)
    assert safety.tune == {"learning_rate": TuneRange(low=1e-6, high=1e-4, log=True)}
    assert (safety.trials, safety.scheduler, safety.metric) == (8, "asha", "loss")
    assert (aligned.trainer, aligned.from_, aligned.lora) == ("dpo", "general", LoraSpec(r=16))


def test_the_recipe_in_the_readme_is_one() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    recipe = parse_recipe(text.split("```yaml\n")[1].split("```")[0], file="README.md")
    assert recipe.search.experts == ("general", "safety")
