"""What merge files mean and what of them is refused; no checkpoint is needed for that."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import yaml

from mergers._errors import InputError
from mergers._mergekit import Headers, NamedBlueprint, read_merges
from mergers._mergekit.headers import Planned
from mergers._mergekit.slices import is_first
from mergers._parts import Blueprint, Part

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def llama(layers: int, dtype: str = "bfloat16", *, extra: tuple[str, ...] = ()) -> Planned:
    inside = [f"model.layers.{i}.{rest}.weight" for i in range(layers) for rest in ("mlp.up_proj", "self_attn.q_proj")]
    names = (HEAD, EMBEDDING, *inside, "model.norm.weight", *extra)
    return Planned(names, HEAD, EMBEDDING, dict.fromkeys(names, dtype))


MODELS: dict[str, Headers] = {
    "x": llama(4),
    "y": llama(4),
    "b": llama(4),
    "x+a": llama(4),
    "wide": llama(4, "float32"),
    "deep": llama(6),
    "old": llama(4, extra=("model.layers.0.self_attn.rotary_emb.inv_freq",)),
    "more": llama(4, extra=("model.layers.0.mlp.bias",)),
    "two stacks": llama(4, extra=("visual.blocks.0.weight", "visual.blocks.1.weight", "visual.merger.mlp.2.bias")),
    "no layers": Planned(("a", "b"), None, None, {"a": "float32", "b": "int64"}),
}


def read(source: str | dict[str, Any], **options: Any) -> tuple[NamedBlueprint, ...]:
    text = source if isinstance(source, str) else yaml.safe_dump(source, sort_keys=False)
    return read_merges(text, resolve=MODELS.__getitem__, **options)


def one(source: str | dict[str, Any], **options: Any) -> Blueprint:
    (found,) = read(source, **options)
    return found.blueprint


def part(blueprint: Blueprint, name: str) -> Part:
    return next(part for part in blueprint.parts if part.name == name)


def weight(blueprint: Blueprint, name: str) -> Any:
    return dict(part(blueprint, name).params)["weight"]


def test_a_scope_whose_filters_miss_leaves_the_word_to_the_next() -> None:
    found = one(
        """
        merge_method: linear
        models:
          - {model: x, parameters: {weight: [{filter: mlp, value: 0.1}]}}
          - {model: y, parameters: {weight: [{filter: mlp, value: 0.2}, {filter: layers.1, value: [0.3, 0.6]}]}}
        parameters: {weight: 0.7, normalize: {filter: norm, value: false}}
        """
    )
    assert weight(found, "model.layers.1.mlp.up_proj.weight") == (0.1, 0.2)
    assert weight(found, "model.layers.1.self_attn.q_proj.weight") == (0.7, pytest.approx(0.4))
    assert weight(found, "model.layers.2.self_attn.q_proj.weight") == (0.7, 0.7)
    assert dict(part(found, "model.norm.weight").params)["normalize"] is False
    assert dict(part(found, EMBEDDING).params)["normalize"] is True


def test_words_step_along_the_layers_and_numbers_do_not() -> None:
    found = one(
        """
        merge_method: ties
        base_model: b
        models: [{model: x}]
        parameters: {weight: [0, 1], normalize: [true, false, false], density: 1e-1}
        """
    )
    attention = [part(found, f"model.layers.{i}.self_attn.q_proj.weight") for i in range(4)]
    assert [dict(each.params)["normalize"] for each in attention] == [True, True, False, False]
    assert [weight(found, each.name)[0] for each in attention] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_slices_renumber_layers_and_take_the_ends_from_the_first_and_the_last() -> None:
    found = one(
        """
        merge_method: passthrough
        slices:
          - sources: [{model: x, layer_range: [0, 3], parameters: {scale: [2, 3]}}]
          - sources: [{model: deep, layer_range: [4, 6]}]
        """
    )
    assert found.models == ("x", "deep")
    assert (found.config, found.layers, found.dtype, found.vocabulary) == (0, 5, "bfloat16", "same")
    names = [each.name for each in found.parts]
    assert names[0] == EMBEDDING
    assert names[-2:] == ["model.norm.weight", HEAD]
    assert part(found, "model.layers.3.mlp.up_proj.weight").inputs == ((1, "model.layers.4.mlp.up_proj.weight"),)
    scales = [dict(each.params)["scale"] for each in found.parts if "mlp" in each.name]
    assert scales == [2, 2.5, 3, 1, 1]
    assert dict(part(found, EMBEDDING).params)["scale"] == 2
    assert part(found, HEAD).inputs == ((1, HEAD),)


def test_a_base_that_is_only_named_gives_the_configuration() -> None:
    found = one(
        """
        merge_method: passthrough
        base_model: deep
        slices: [{sources: [{model: x, layer_range: [0, 2]}]}, {sources: [{model: x, layer_range: [0, 4]}]}]
        """
    )
    assert found.models == ("deep", "x")
    assert found.layers is None
    assert {index for each in found.parts for index, _ in each.inputs} == {1}


def test_empty_slices_lend_their_embeddings() -> None:
    found = one(
        """
        merge_method: passthrough
        slices: [{sources: [{model: y, layer_range: [0, 0]}]}, {sources: [{model: x, layer_range: [0, 4]}]}]
        """
    )
    assert part(found, EMBEDDING).inputs == ((0, EMBEDDING),)
    assert part(found, HEAD).inputs == ((1, HEAD),)


@pytest.mark.parametrize(
    ("keys", "vocabulary"),
    [
        ({}, "same"),
        ({"tokenizer_source": "base"}, "base"),
        ({"tokenizer_source": "union"}, "union"),
        ({"tokenizer_source": "y"}, "y"),
        ({"tokenizer": {"source": "base", "tokens": None, "pad_to_multiple_of": None}}, "base"),
        ({"tokenizer": {}}, "union"),
        ({"tokenizer": {"source": {"model": {"path": "y"}}}}, "y"),
    ],
)
def test_tokenizers_are_vocabularies(keys: dict[str, Any], vocabulary: str) -> None:
    assert one(LINEAR | keys).vocabulary == vocabulary


def test_a_chat_template_is_passed_on() -> None:
    (found,) = read(LINEAR | {"chat_template": "{{ messages[0].content }}"})
    assert found.chat_template == "{{ messages[0].content }}"
    assert read(LINEAR)[0].chat_template is None


def test_references_to_models() -> None:
    found = one(
        {
            "merge_method": "linear",
            "parameters": {"weight": 1},
            "models": [{"model": "x+a"}, {"model": {"model": {"path": "y", "revision": None}, "lora": None}}],
        }
    )
    assert found.models == ("x+a", "y")


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({}, "bfloat16"),
        ({"dtype": "float32"}, "float32"),
        ({"dtype": "float32", "out_dtype": "torch.float16"}, "float16"),
        ({"models": [{"model": "x"}, {"model": "wide"}]}, "float32"),
        ({"models": [{"model": "wide"}]}, "float32"),
    ],
)
def test_types_of_the_output(keys: dict[str, Any], dtype: str) -> None:
    assert one(LINEAR | {"parameters": {"weight": 1}} | keys).dtype == dtype


def test_notes_say_what_has_no_effect() -> None:
    found = one(
        """
        merge_method: task_arithmetic
        base_model: b
        models: [{model: x, parameters: {density: 0.5, weight: 1, lambda: 2}}]
        parameters: {t: 0.5, int8_mask: true}
        dtype: bfloat16
        """
    )
    assert len(found.notes) == 4
    for text in ("t has no effect", "density has no effect", "lambda has no effect beside a model", "would compute in"):
        assert any(text in note for note in found.notes), text
    assert dict(part(found, EMBEDDING).params)["lambda_"] == 1.0
    assert one(LINEAR).notes == ()


def test_buffers_that_some_models_store_are_left_out() -> None:
    found = one(LINEAR | {"models": [{"model": "x"}, {"model": "old"}], "parameters": {"weight": 1}})
    assert not [each.name for each in found.parts if "inv_freq" in each.name]
    assert any("inv_freq is left out" in note for note in found.notes)
    kept = one(LINEAR | {"models": [{"model": "old"}], "parameters": {"weight": 1}})
    assert [each.name for each in kept.parts if "inv_freq" in each.name]


def test_models_of_several_stacks_can_be_merged_whole() -> None:
    found = one("{merge_method: linear, models: [{model: two stacks, parameters: {weight: [0.5, 0.75, 0.875, 1]}}]}")
    named = {each.name: weight(found, each.name)[0] for each in found.parts}
    assert named["visual.blocks.0.weight"] == 0.5
    assert named["visual.blocks.1.weight"] == 1
    assert named["visual.merger.mlp.2.bias"] == 0.5  # no layer: its numbers do not count from 0


def test_seeds_and_masks_belong_to_the_output() -> None:
    found = one("{merge_method: dare_ties, base_model: b, models: [{model: x}], parameters: {weight: 1}}", seed=7)
    assert {each.seed for each in found.parts} == {7}


def test_methods_of_ours_can_be_named() -> None:
    found = one("{merge_method: tsvm, base_model: b, models: [{model: x}, {model: y}]}")
    assert part(found, EMBEDDING).base == (0, EMBEDDING)


TWO = [{"model": "x", "parameters": {"weight": 0.5}}, {"model": "y", "parameters": {"weight": 0.5}}]
LINEAR: dict[str, Any] = {"merge_method": "linear", "models": TWO}
STACK: dict[str, Any] = {"merge_method": "passthrough"}


def slices(*ranges: tuple[str, Any], **keys: Any) -> dict[str, Any]:
    return {"slices": [{"sources": [{"model": m, "layer_range": r}]} | keys for m, r in ranges]}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "0 documents"),
        ("[]", "a YAML mapping"),
        ("{models: [{model: x}]}", "a YAML mapping with merge_method"),
        ("a: [", "not YAML"),
        ("merge_method: linear\nmerge_method: ties\nmodels: []", "key 'merge_method' is given twice"),
        (LINEAR | {"base_modle": "b"}, "unknown key 'base_modle'.*did you mean 'base_model'"),
        (LINEAR | {"out_path": "z"}, "out_path is not supported; write name"),
        (LINEAR | {"merge_method": "dare_tis"}, "unknown merge method 'dare_tis'; did you mean 'dare_ties'"),
        ({"merge_method": "linear"}, "one of models, slices or modules, got none"),
        (LINEAR | {"slices": [1]}, "got models, slices"),
        (LINEAR | {"models": []}, "models must be a list with at least one model"),
        (LINEAR | {"models": ["x"]}, "holds model and parameters"),
        (LINEAR | {"models": [{"model": "x", "weight": 1}]}, "holds model and parameters"),
        (LINEAR | {"models": [*TWO, TWO[0]]}, "listed once"),
        (LINEAR | {"models": [{"model": "x+a+a"}]}, "one adapter"),
        (LINEAR | {"models": [{"model": {"path": "x"}}]}, "a model is a path"),
        (LINEAR | {"models": [{"model": "x"}]}, "linear needs parameter 'weight' for x"),
        (LINEAR | {"base_model": "b"}, "list b with its weight"),
        (LINEAR | {"merge_method": "ties"}, "ties needs base_model; name the model that"),
        (LINEAR | {"merge_method": "slerp"}, "slerp needs base_model; name one of the two"),
        (LINEAR | {"merge_method": "slerp", "base_model": "x"}, "slerp needs parameter 't'"),
        (LINEAR | {"merge_method": "slerp", "base_model": "b", "parameters": {"t": 1}}, "exactly 2 expert.*got 3"),
        (LINEAR | {"merge_method": "model_stock", "base_model": "x"}, "at least 2 expert.*got 1"),
        (LINEAR | {"parameters": {"normalise": True}}, "no parameter 'normalise'.*did you mean 'normalize'"),
        (LINEAR | {"parameters": {"normalize": 1}}, r"normalize \(parameters\) must be true or false, got 1"),
        (LINEAR | {"parameters": [{"weight": 1}]}, "must be a mapping"),
        (LINEAR | {"parameters": {"weight": []}}, "empty list"),
        (LINEAR | {"parameters": {"weight": [[0.5]]}}, r"must be a number, got \[0.5\]"),
        (LINEAR | {"parameters": {"weight": [{"pattern": "mlp", "value": 1}]}}, "holds filter and value"),
        (LINEAR | {"parameters": {"weight": [{"filter": 3, "value": 1}]}}, "part of a tensor's name, got 3"),
        (
            LINEAR | {"models": [{"model": "x", "parameters": {"weight": "half"}}]},
            r"weight \(parameters of x\) must be",
        ),
        (LINEAR | {"models": [{"model": "x", "parameters": {"weight": 0}}]}, "divides by the sum of weight"),
        (
            LINEAR | {"models": [{"model": "x", "parameters": {"weight": [1, 0]}}]},
            r"tensor model.layers.3.mlp.up_proj.weight: linear with normalize divides by the sum",
        ),
        (
            {"merge_method": "karcher", "models": [{"model": "x"}], "parameters": {"max_iter": [1, 3]}},
            "max_iter of tensor model.layers.1.* must give whole numbers",
        ),
        (
            LINEAR | {"merge_method": "ties", "base_model": "b", "parameters": {"density": 2}},
            r"density must lie in \[0, 1\]",
        ),
        (LINEAR | {"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        (LINEAR | {"out_dtype": 32}, "out_dtype must be text"),
        (LINEAR | {"tokenizer": {}, "tokenizer_source": "base"}, "one of tokenizer and tokenizer_source"),
        (LINEAR | {"tokenizer": {"tokens": {"<s>": {"source": "x"}}}}, "tokenizer.tokens is not supported .<s>"),
        (LINEAR | {"tokenizer": {"pad_to_multiple_of": 8}}, "pad_to_multiple_of is not supported; leave it out"),
        (LINEAR | {"tokenizer": "base"}, "tokenizer holds source"),
        (LINEAR | {"chat_template": "auto"}, "chat_template 'auto' is not supported"),
        (
            {"merge_method": "linear", "modules": {"text": {}, "vision": {}}},
            "several parts are not supported .text, vision",
        ),
        ({"merge_method": "linear", "modules": {"text": {"models": TWO, "weight": 1}}}, "module text holds"),
        ({"merge_method": "linear", "modules": {"text": {"parameters": {}}}}, "one of models or slices"),
        (STACK | {"slices": []}, "at least one slice"),
        (STACK | {"slices": [{"source": []}]}, "slice 1 holds sources"),
        (STACK | slices(("x", [0, 5])), r"layer_range \[0, 5\] of x: it has 4 layers"),
        (STACK | slices(("x", [3, 2])), "layer_range of x .slice 1. must be"),
        (STACK | slices(("x", "0-3")), "layer_range of x .slice 1. must be"),
        (STACK | slices(("x", [2, 2])), "the slices hold no layer"),
        (STACK | slices(("two stacks", [0, 2])), "one stack of layers, two stacks has: model.layers, visual.blocks"),
        (STACK | slices(("no layers", [0, 2])), "no layers has: none"),
        (LINEAR | {"merge_method": "passthrough"}, "exactly 1 expert"),
        (
            {"merge_method": "task_arithmetic", "base_model": "b", "parameters": {"weight": 1}} | slices(("x", [0, 4])),
            "slice 1 lacks base_model b",
        ),
        (
            {
                "merge_method": "linear",
                "parameters": {"weight": 1},
                "slices": [{"sources": [{"model": m, "layer_range": [0, n]} for m, n in (("x", 2), ("y", 3))]}],
            },
            "sources of slice 1 must have as many layers .x: 2, y: 3",
        ),
        (
            LINEAR | {"models": [*TWO, {"model": "deep", "parameters": {"weight": 1}}]},
            "deep has layers model.layers: 6, x",
        ),
        (
            LINEAR | {"models": [*TWO, {"model": "more", "parameters": {"weight": 1}}]},
            "x lacks tensor .*mlp.bias of more",
        ),
        (f"{LINEAR}\n---\n{LINEAR}", "only one document .* without a name"),
        (f"{LINEAR | {'name': 'n'}}\n---\n{LINEAR | {'name': 'n'}}", "two documents .* named 'n'"),
        (LINEAR | {"name": "union"}, "name must be a plain word"),
        (LINEAR | {"name": "../n"}, "name must be a plain word"),
        (LINEAR | {"name": "x"}, "use each other in a circle: x"),
        (f"{LINEAR | {'name': 'x', 'tokenizer_source': 'z'}}\n---\n{LINEAR | {'name': 'z'}}", "in a circle: x, z"),
    ],
)
def test_bad_files_are_refused_in_one_line(source: str | dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read(source)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_keys_that_an_anchor_brings_in_may_be_overridden() -> None:
    found = one(
        """
        merge_method: linear
        models:
          - {model: x, parameters: &shares {weight: 0.5}}
          - {model: y, parameters: {<<: *shares, weight: 0.25}}
        """
    )
    assert weight(found, HEAD) == (0.5, 0.25)


def test_tensors_before_the_layers_are_told_from_those_after_as_mergekit_does() -> None:
    definitions = pytest.importorskip("mergekit.architecture.json_definitions")
    seen = 0
    for architecture in definitions.JSON_ARCHITECTURES:
        if len(architecture.modules) != 1:
            continue  # of several parts: slices of those are refused
        ((module),) = architecture.modules.values()
        definition = module.architecture.definition
        for first, weights in ((True, definition.pre_weights), (False, definition.post_weights)):
            for info in weights:
                if not info.name.startswith("layers."):  # phi-1 numbers its embedding and its head as layers
                    assert is_first(info.name) == first, (architecture.architectures, info.name)
                    seen += 1
    assert seen > 100
