"""Opening PEFT adapters and folding them into their base, against PEFT itself."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergers._adapter.fold import Folded, files, fold, open_model, split_reference
from mergers._adapter.open import open_adapter
from mergers._checkpoint.checkpoint import compare, open_checkpoint
from mergers._errors import InputError

from .peft_adapters import (
    EMBEDDING,
    HEAD,
    QKV,
    assert_same_logits,
    load,
    logits,
    logits_of,
    merged_by_peft,
    save_adapter,
    store_head,
    tie,
    with_adapter,
)

Q0 = "model.layers.0.self_attn.q_proj.weight"

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all linear": {"target_modules": "all-linear", "r": 3},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"layers.0.self_attn.q_proj": 2, "v_proj": 5},
        "alpha_pattern": {"k_proj": 11, "^model.layers.1.*q_proj": 3},
        "use_rslora": True,
    },
    "some layers": {"layers_to_transform": [1]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"], "use_rslora": True},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "modules to save": {"modules_to_save": ["lm_head", "norm", "embed_tokens"]},
    "trained tokens": {"trainable_token_indices": [7, 3, 30]},
    "trained tokens of both": {"trainable_token_indices": {"embed_tokens": [7, 3], "lm_head": [1]}},
    "dora": {"use_dora": True},
    "dora on an embedding": {"use_dora": True, "target_modules": ["o_proj", "embed_tokens"]},
    "orthogonal start": {"init_lora_weights": "orthogonal"},
    "mica": {"init_lora_weights": "mica"},
}


@pytest.fixture(scope="module")
def plain(untied_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(untied_models / "base", tmp_path_factory.mktemp("adapters") / "plain", 1)


def assert_folds_as_peft(base: Path, adapter: Path) -> None:
    folded = fold(open_checkpoint(base), open_adapter(adapter))
    theirs = merged_by_peft(base, adapter)
    assert set(folded.names) <= set(theirs)
    for name in folded.names:
        torch.testing.assert_close(folded.read(name).float(), theirs[name], rtol=0, atol=5e-7)
    said = logits(with_adapter(base, adapter))
    ours = logits_of(base, {name: folded.read(name) for name in folded.names})
    assert_same_logits(ours, said)
    assert (said - logits_of(base, {})).abs().max() > 1e-3  # the adapter does something


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS.keys())
def test_folding_gives_what_peft_merges(untied_models: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = save_adapter(untied_models / "base", tmp_path / "adapter", 5, **settings)
    assert_folds_as_peft(untied_models / "base", adapter)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_replace_the_base_s(tmp_path: Path, bias: str) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "base")
    adapter = save_adapter(tmp_path / "base", tmp_path / "adapter", 2, target_modules=["q_proj"], bias=bias)
    changes = open_adapter(adapter).changes
    assert ("model.layers.1.self_attn.v_proj.bias" in changes) == (bias == "all")
    assert_folds_as_peft(tmp_path / "base", adapter)


@pytest.mark.parametrize("target", [["c_attn"], ["c_attn", "c_proj", "wte"]])
def test_layers_stored_the_other_way_round(tmp_path: Path, target: list[str]) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)).save_pretrained(
        tmp_path / "base"
    )
    adapter = open_adapter(save_adapter(tmp_path / "base", tmp_path / "adapter", 2, target_modules=target))
    base = open_checkpoint(tmp_path / "base")
    name = "transformer.h.0.attn.c_attn.weight"
    assert base.shape(name) == (16, 48)
    low = adapter.changes[name].low_rank
    assert low is not None
    assert low.layout == "transposed"
    theirs = merged_by_peft(tmp_path / "base", tmp_path / "adapter")
    folded = fold(base, adapter)
    for name in base.names:
        torch.testing.assert_close(folded.read(name), theirs[name], rtol=0, atol=5e-7)


def test_delta_is_the_scaled_product_in_the_base_s_orientation(untied_models: Path, tmp_path: Path) -> None:
    adapter = save_adapter(untied_models / "base", tmp_path / "a", 3, target_modules=["q_proj", "embed_tokens"])
    stored = load_file(adapter / "adapter_model.safetensors")
    opened, prefix = open_adapter(adapter), "base_model.model.model."
    a, b = (stored[f"{prefix}layers.0.self_attn.q_proj.lora_{side}.weight"].double() for side in "AB")
    delta = opened.delta(Q0)
    assert delta is not None
    assert delta.dtype == torch.float32
    torch.testing.assert_close(delta.double(), 1.5 * b @ a, rtol=0, atol=1e-6)
    a, b = (stored[f"{prefix}embed_tokens.lora_embedding_{side}"].double() for side in "AB")
    delta = opened.delta(EMBEDDING)
    assert delta is not None
    assert delta.shape == (40, 16)
    torch.testing.assert_close(delta.double(), 1.5 * (b @ a).T, rtol=0, atol=1e-6)
    factors = opened.factors(EMBEDDING)
    assert factors is not None
    assert (factors.a.shape, factors.b.shape, factors.scale) == ((4, 16), (40, 4), 1.5)
    assert opened.delta("model.norm.weight") is None


def test_a_bfloat16_base_is_not_rounded_again(bfloat16_models: Path, tmp_path: Path) -> None:
    path = bfloat16_models / "base"
    adapter = open_adapter(save_adapter(path, tmp_path / "a", 3))
    base = open_checkpoint(path)
    folded = fold(base, adapter)
    assert (folded.dtype(Q0), folded.dtype("model.norm.weight")) == ("float32", "bfloat16")
    delta = adapter.delta(Q0)
    assert delta is not None
    exact = base.read(Q0).double() + delta.double()
    assert (folded.read(Q0).double() - exact).abs().max() < 1e-7
    assert (exact.to(torch.bfloat16).double() - exact).abs().max() > 1e-4  # what rounding would have cost
    untouched = folded.read("model.norm.weight")
    assert untouched.data_ptr() == base.read("model.norm.weight").data_ptr()


def test_a_folded_model_reads_as_a_checkpoint(untied_models: Path, plain: Path) -> None:
    base = open_checkpoint(untied_models / "base")
    folded = fold(base, open_adapter(plain))
    assert folded.names == base.names
    assert (folded.path, folded.head, folded.embedding) == (base.path, HEAD, EMBEDDING)
    assert Q0 in folded
    assert "nothing" not in folded
    assert folded.shape(Q0) == (16, 16)
    assert folded.is_float(Q0)
    assert folded.size(Q0) == 1024
    assert folded.same_bytes(Q0, Q0)
    assert not folded.same_bytes(Q0, Q0.replace("layers.0", "layers.1"))
    compare(base, folded, "expert")
    again = pickle.loads(pickle.dumps(folded))
    assert again.digest() == folded.digest()
    assert again.stamp() == folded.stamp()
    assert torch.equal(again.read(Q0), folded.read(Q0))
    assert fold(base, open_adapter(plain)).adapter.digest() == open_adapter(plain).digest() != base.digest()


def test_the_digest_knows_scale_and_values(untied_models: Path, plain: Path, tmp_path: Path) -> None:
    digest = open_adapter(plain).digest()
    scaled = changed(plain, tmp_path / "scaled", lora_alpha=7)
    assert open_adapter(scaled).digest() != digest
    assert open_adapter(save_adapter(untied_models / "base", tmp_path / "other", 2)).digest() != digest


def test_a_model_may_be_named_with_its_adapter_or_by_the_adapter_alone(untied_models: Path, plain: Path) -> None:
    base = untied_models / "base"
    expected = fold(open_checkpoint(base), open_adapter(plain)).read(Q0)
    assert torch.equal(open_model(f"{base}+{plain}").read(Q0), expected)
    assert torch.equal(open_model(plain, open_checkpoint(base)).read(Q0), expected)
    assert torch.equal(open_model(base).read(Q0), open_checkpoint(base).read(Q0))
    assert [file.name for file in files(f"{base}+{plain}")] == [
        "model.safetensors", "adapter_model.safetensors", "adapter_config.json",
    ]  # fmt: skip
    with pytest.raises(InputError, match="is an adapter without its base; write BASE"):
        open_model(plain)


def test_plus_signs_in_directory_names(untied_models: Path, plain: Path, tmp_path: Path) -> None:
    base, adapter = tmp_path / "a+b", tmp_path / "c+d"
    shutil.copytree(untied_models / "base", base)
    shutil.copytree(plain, adapter)
    assert split_reference(base) == (base, None)
    assert split_reference(f"{base}+{adapter}") == (base, adapter)


def test_a_base_of_another_name_is_noted_not_refused(untied_models: Path, plain: Path, tmp_path: Path) -> None:
    assert fold(open_checkpoint(untied_models / "base"), open_adapter(plain)).notes == ()
    (note,) = fold(open_checkpoint(untied_models / "one"), open_adapter(plain)).notes
    assert note.endswith(f"it is folded into {untied_models / 'one'}")
    assert "\n" not in note
    snapshot = tmp_path / "models--owner--name/snapshots/0123abc"
    shutil.copytree(untied_models / "base", snapshot)
    named = open_adapter(changed(plain, tmp_path / "named", base_model_name_or_path="owner/name"))
    assert fold(open_checkpoint(snapshot), named).notes == ()


UNTYING: list[dict[str, Any]] = [
    {"target_modules": ["embed_tokens"]},
    {"target_modules": ["lm_head"]},
    {"modules_to_save": ["embed_tokens"]},
    {"modules_to_save": ["embed_tokens", "lm_head"]},
]
TYING: list[dict[str, Any]] = [
    {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    {"trainable_token_indices": [3, 5]},
]


@pytest.mark.parametrize("settings", UNTYING, ids=str)
def test_an_adapter_that_unties_a_tied_head_is_refused(
    tied_models: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    adapter = save_adapter(tied_models / "base", tmp_path / "a", 5, **settings)
    folded = assert_runs_as_peft(tied_models / "base", adapter)
    with pytest.raises(InputError, match="has an output head of its own"):
        compare(folded.base, folded, "expert")


@pytest.mark.parametrize("settings", TYING, ids=str)
def test_an_adapter_that_keeps_a_head_tied_is_taken(
    tied_models: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    adapter = save_adapter(tied_models / "base", tmp_path / "a", 5, **settings)
    tie(adapter)
    folded = assert_runs_as_peft(tied_models / "base", adapter)
    compare(folded.base, folded, "expert")


def assert_runs_as_peft(path: Path, adapter: Path) -> Folded:
    """PEFT's running model is the judge, which leaves a tied head alone where its `merge_and_unload` does not."""
    folded = fold(open_checkpoint(path), open_adapter(adapter))
    weights = {name: folded.read(name) for name in folded.names}
    weights.setdefault(HEAD, weights[EMBEDDING])
    model = load(path)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.load_state_dict(weights)
    assert_same_logits(logits(model), logits(with_adapter(path, adapter)))
    return folded


def test_trained_tokens_reach_a_stored_head_that_the_config_ties(tied_models: Path, tmp_path: Path) -> None:
    path = store_head(tied_models / "base", tmp_path / "base")
    adapter = save_adapter(path, tmp_path / "a", 5, trainable_token_indices=[3, 5])
    folded = fold(open_checkpoint(path), open_adapter(adapter))
    assert folded.same_bytes(HEAD, EMBEDDING)
    assert not torch.equal(folded.read(HEAD), folded.base.read(HEAD))


def changed(adapter: Path, out: Path, **fields: object) -> Path:
    """A copy with other settings."""
    shutil.copytree(adapter, out)
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps(config | fields))
    return out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "VERA"}, "peft_type VERA; only LORA"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4', which changed the base"),
        ({"init_lora_weights": "olora"}, "init_lora_weights 'olora'"),
        ({"lora_bias": True}, "sets lora_bias, which"),
        ({"target_parameters": ["experts.down_proj"]}, "sets target_parameters, which"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "sets layer_replication, which"),
        ({"alora_invocation_tokens": [1, 2]}, "sets alora_invocation_tokens, which"),
        ({"use_qalora": True}, "sets use_qalora, which"),
        ({"a_setting_of_tomorrow": {"x": 1}}, "sets a_setting_of_tomorrow, which"),
        ({"r": 8}, "has rank 4 .A. and 4 .B. at model.layers.0.self_attn.k_proj, its adapter_config.json says 8"),
        ({"r": "many"}, "unreadable value"),
        ({"r": 0}, "every rank must be at least 1, got 0"),
        ({"rank_pattern": {"(": 2}}, "unreadable value"),
        ({"use_dora": True}, "lacks base_model.model.model.layers.0.self_attn.k_proj.lora_magnitude_vector"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_merged_are_refused_by_name(
    plain: Path, tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_adapter(changed(plain, tmp_path / "changed", **fields))
    assert "\n" not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), InputError)


def test_tensors_that_cannot_be_merged_are_refused_by_name(plain: Path, tmp_path: Path) -> None:
    key = "base_model.model.model.layers.0.self_attn.q_proj"
    stored = load_file(plain / "adapter_model.safetensors")
    without_b = {name: tensor for name, tensor in stored.items() if name != f"{key}.lora_B.weight"}
    without_a = {name: tensor for name, tensor in stored.items() if name != f"{key}.lora_A.weight"}
    cases = [
        (stored | {f"{key}.lora_B.bias": torch.zeros(16)}, "has tensor .*lora_B.bias, which cannot"),
        (stored | {f"{key}.lora_ranknum": torch.ones(1)}, "has tensor .*lora_ranknum, which cannot"),
        (stored | {"prompt_embeddings": torch.ones(1)}, "has tensor prompt_embeddings"),
        (without_b, "q_proj.lora_A.weight without .*q_proj.lora_B.weight"),
        (without_a, "has tensor .*q_proj.lora_B.weight, which cannot"),
        (stored | {f"{key}.lora_A.weight": torch.zeros(0)}, "as float32 .0.; save it unquantized, and gathered"),
        (stored | {f"{key}.lora_A.weight": torch.zeros(4, 16, dtype=torch.uint8)}, "as uint8 .4, 16."),
        (stored | {f"{key}.lora_A.weight": torch.zeros(4, 16, 1)}, "only linear layers and embeddings"),
        (stored | {f"{key}.lora_magnitude_vector": torch.ones(16)}, "has .*lora_magnitude_vector, though its"),
        (stored | {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(2, 16)},
         "trainable_token_indices in its adapter_config.json lists no rows"),
        (stored | {f"{key}.base_layer.weight": torch.ones(16, 16), f"{key}.weight": torch.ones(16, 16)}, "twice"),
        ({}, "changes no tensor"),
    ]  # fmt: skip
    for number, (tensors, message) in enumerate(cases):
        adapter = changed(plain, tmp_path / str(number))
        save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
        with pytest.raises(InputError, match=message) as caught:
            open_adapter(adapter)
        assert "\n" not in str(caught.value)


def test_directories_that_hold_no_readable_adapter(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no adapter_config.json"):
        open_adapter(tmp_path)
    pickled = changed(plain, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(InputError, match="only pickled weights, which are never loaded"):
        open_adapter(pickled)
    (pickled / "adapter_model.bin").unlink()
    with pytest.raises(InputError, match=r"holds no adapter_model.safetensors"):
        open_adapter(pickled)
    (pickled / "adapter_model.safetensors").write_bytes((plain / "adapter_model.safetensors").read_bytes()[:-8])
    with pytest.raises(InputError, match="is cut short"):
        open_adapter(pickled)
    (pickled / "adapter_config.json").write_text("[]")
    with pytest.raises(InputError, match="is not a JSON object"):
        open_adapter(pickled)
    (pickled / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match="cannot read"):
        open_adapter(pickled)


def test_an_adapter_of_another_base_is_refused_naming_both(untied_models: Path, plain: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    base = open_checkpoint(untied_models / "base")
    small = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    for number, other, message in (
        (1, {"num_hidden_layers": 1}, f"layers.1.self_attn.k_proj.weight, which base .* lacks; .*{untied_models}"),
        (2, {"num_hidden_layers": 2, "head_dim": 4}, r"q_proj.weight as \[16, 16\], base .* holds \[8, 16\]|k_proj"),
    ):
        AutoModelForCausalLM.from_config(LlamaConfig(**small, **other)).save_pretrained(tmp_path / str(number))
        with pytest.raises(InputError, match=message) as caught:
            fold(open_checkpoint(tmp_path / str(number)), open_adapter(plain))
        assert f"adapter {plain}" in str(caught.value)
        assert str(tmp_path / str(number)) in str(caught.value)
    tokens = save_adapter(untied_models / "base", tmp_path / "tokens", 1, trainable_token_indices=[3, 5])
    beyond = changed(tokens, tmp_path / "beyond", trainable_token_indices=[3, 41])
    with pytest.raises(InputError, match=r"embed_tokens.weight as \[42, 16\], base .* holds \[40, 16\]"):
        fold(base, open_adapter(beyond))


def test_opening_needs_no_torch(plain: Path) -> None:
    code = (
        "import sys; from mergers._adapter.open import open_adapter; from mergers._adapter.fold import fold;"
        f"print(len(open_adapter({str(plain)!r}).changes), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2 * len(QKV)), "False"]
