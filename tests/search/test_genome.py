"""Configurations of mergekit-evolve as recipes that load."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search._recipe.layer_groups import LayerGroups
from search._space.layers import groups_of
from search.commands.genome import recipe_text
from search.errors import UserError
from search.recipe import Recipe, parse_recipe

GENOME: dict[str, Any] = {"models": ["org/one", "org/two"], "merge_method": "ties", "base_model": "org/base"}
TASKS: list[Any] = [{"name": "gsm8k_train", "metric": "exact_match,strict-match"}, "sst2"]

# The example of mergekit's docs/evolve.md, filled in.
DOCUMENTED = """
genome:
    models:
       - one/model
       - two/model
       - ./three
    merge_method: dare_ties
    base_model: the/base
    tokenizer_source: union
    layer_granularity: 8

    normalize: true
    allow_negative_weights: true
    smooth: true
    filters:
      - self_attn
      - mlp
tasks:
  - name: one_task
    weight: 1.0 # optional
    metric: "acc,none" # defaults to acc,none
  - name: wikitext
    weight: -0.5
    metric: "word_perplexity,none"
limit: 100
num_fewshot: 3
shuffle: true
random_init: true
apply_chat_template: false
fewshot_as_multiturn: true
"""


def made(genome: dict[str, Any] | None = None, **rest: Any) -> tuple[str, Recipe]:
    text = recipe_text(yaml.safe_dump({"genome": GENOME | (genome or {}), "tasks": TASKS} | rest), file="path/evo.yaml")
    return text, parse_recipe(text)


def test_models_become_experts_and_tasks_become_objectives() -> None:
    text, recipe = made()
    assert (recipe.name, recipe.base) == ("evo", "org/base")
    assert {name: expert.path for name, expert in recipe.experts.items()} == {"one": "org/one", "two": "org/two"}  # type: ignore[union-attr]  # no expert is trained here
    assert recipe.search.methods == ("ties",)
    assert dict(recipe.search.objectives) == {"gsm8k_train": "max", "sst2": "max"}
    assert recipe.evaluators["gsm8k_train"].options == {"mode": "generate"}
    assert recipe.search.candidates == 100
    assert "What a recipe does not hold" not in text
    assert text.count("TODO") == 3  # the head's word for it, languages, items


def test_what_a_recipe_cannot_hold_is_said() -> None:
    text = recipe_text(DOCUMENTED)
    recipe = parse_recipe(text)
    assert dict(recipe.search.objectives) == {"one_task": "max", "wikitext": "min"}
    for said in (
        "# * limit: 100 items",
        "# * num_fewshot: 3",
        "# * shuffle",
        "# * random_init",
        "# * apply_chat_template: false",
        "# * fewshot_as_multiturn: true",
        "# * tokenizer_source: union",
        "# smooth was true: weights were interpolated between groups",
        '# filters were ["self_attn", "mlp"], besides groups of layers',
        "# density was searched for each model",
        "# allow_negative_weights was true",
        "# normalize was true; a search takes the method's default, false",
        "# weights of the sum were one_task 1, wikitext -0.5",
        "# TODO: exact_match is no such measure",
    ):
        assert said in text, said


@pytest.mark.parametrize(
    ("genome", "expected"),
    [
        ({}, LayerGroups(groups=1)),
        ({"layer_granularity": 0}, LayerGroups(groups=1)),
        ({"layer_granularity": 8}, LayerGroups(layers=8)),
        ({"layer_granularity": 1, "filters": ["mlp"]}, LayerGroups(layers=1)),
        ({"filters": ["self_attn", "mlp"]}, LayerGroups(by="kind", kinds=("attention", "mlp"))),
        ({"filters": ["mlp", "q_proj"]}, LayerGroups(groups=1)),
    ],
)
def test_granularity_and_filters_become_layer_groups(genome: dict[str, Any], expected: LayerGroups) -> None:
    text, recipe = made(genome)
    assert recipe.search.layer_groups == expected
    lost = bool(genome.get("filters")) and expected.by != "kind"
    assert ("filters were" in text) == lost


def test_groups_are_those_of_mergekit_evolve() -> None:
    genomes = pytest.importorskip("mergekit.evo.genome")
    names = ("model.embed_tokens.w", *(f"model.layers.{n}.mlp.w" for n in range(6)), "model.norm.w", "lm_head.w")
    groups = groups_of(made({"layer_granularity": 2})[1].search.layer_groups, names, lambda: ())
    definition = genomes.ModelGenomeDefinition(models=["a", "b"], merge_method="linear", layer_granularity=2)
    genome = object.__new__(genomes.ModelGenome)
    genome.definition, genome.num_layers = definition, 6
    slices = genome._discrete_config_slices(3, 1, {"weight": genome.initial_genotype()[:, :, :, 0]})
    ranges = [entry["sources"][0]["layer_range"] for entry in slices]
    assert groups.names == tuple(f"layers{first}-{end - 1}" for first, end in ranges)


def test_the_defaults_of_normalize_are_compared() -> None:
    assert "normalize" not in made()[0]
    assert "normalize was true; a search takes the method's default, false" in made({"merge_method": "dare_ties"})[0]
    assert "normalize" not in made({"merge_method": "dare_ties", "normalize": False})[0]
    assert "normalize was false" in made({"merge_method": "linear", "normalize": False})[0]


def test_slerp_of_more_than_two_models_interpolates_all() -> None:
    two = made({"merge_method": "slerp", "base_model": None})
    assert two[1].search.methods == ("slerp",)
    assert two[1].base == "org/one"
    text, recipe = made({"merge_method": "slerp", "models": ["a", "b", "c"]})
    assert recipe.search.methods == ("multislerp",)
    assert "slerp takes two models" in text


def test_the_base_is_an_expert_only_where_its_weight_counts() -> None:
    models = {"models": ["org/base", "org/one", "org/two"]}
    assert made(models)[1].search.experts == ("one", "two")
    assert made(models | {"merge_method": "linear"})[1].search.experts == ("base-2", "one", "two")


def test_references_that_need_work_are_marked() -> None:
    models = [{"model": {"path": "org/one", "revision": "v2"}}, {"model": "org/one", "lora": {"path": "an/adapter"}}]
    text, recipe = made({"models": models, "base_model": {"model": "b", "override_architecture": "BertModel"}})
    assert [expert.path for expert in recipe.experts.values()] == ["org/one@v2", "org/one+an/adapter"]  # type: ignore[union-attr]  # no expert is trained here
    assert recipe.search.experts == ("one", "one-2")
    assert "TODO: download this revision" in text
    assert "TODO: fold the adapter" in text
    assert recipe.base == "b"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "genome.yaml"),
        ("tasks: [x]", "genome: must hold models and merge_method, got nothing"),
        (
            "genome: {merge_method: della, models: [a, b]}\ntasks: [x]",
            "merge_method: mergekit-evolve has no such method",
        ),
        ("genome: {merge_method: ties, models: [a, b]}\ntasks: [x]", "ties needs base_model"),
        ("genome: {merge_method: linear, models: []}\ntasks: [x]", "genome.models: must be a list with at least one"),
        (
            "genome: {merge_method: linear, models: [3, a]}\ntasks: [x]",
            "genome.yaml:1: genome.models.0: must be a model",
        ),
        ("genome: {merge_method: linear, models: [a, a]}\ntasks: [x]", "at least two models"),
        ("genome: {merge_method: linear, models: [a, b]}", "tasks: must be a list"),
        ("genome: {merge_method: linear, models: [a, b]}\ntasks: [{weight: 1}]", "tasks.0: must be a task's name"),
        ("genome: {merge_method: linear, models: [a, b]}\ntasks: [{name: x, weight: 0}]", "tasks.0.weight: must be"),
        ("genome: {a: 1, a: 2}\ntasks: [x]", "genome.a"),
    ],
)
def test_other_files_are_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_text(text)
    assert says in str(caught.value)


@given(
    models=st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True),
    tasks=st.lists(st.text(min_size=1), min_size=1, max_size=4),
    extra=st.dictionaries(st.text(), st.text(), max_size=2),
    file=st.text(max_size=20),
)
def test_whatever_things_are_called_the_recipe_loads(
    models: list[str], tasks: list[str], extra: dict[str, str], file: str
) -> None:
    text = yaml.safe_dump({"genome": {"merge_method": "linear", "models": models, **extra}, "tasks": tasks})
    try:
        recipe = recipe_text(text, file=file)
    except UserError:
        return
    parsed = parse_recipe(recipe)
    assert [expert.path for expert in parsed.experts.values()] == models  # type: ignore[union-attr]  # no expert is trained here
    assert len(parsed.evaluators) == len(tasks)
