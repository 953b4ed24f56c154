"""Weighted sums of adapters, kept as adapters: against the dense sum, and against PEFT reading what was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mergers._adapter.adapter import Adapter, Change, Lazy, LowRank
from mergers._adapter.combine import adapter_weights, combine, linear_weights
from mergers._adapter.compress import compress
from mergers._adapter.fold import fold
from mergers._adapter.open import open_adapter
from mergers._adapter.write import write_adapter
from mergers._checkpoint.checkpoint import open_checkpoint
from mergers._errors import InputError
from mergers._spec import Merge

from .peft_adapters import assert_same_logits, dense_sum, logits, logits_of, save_adapter, with_adapter

Q0 = "model.layers.0.self_attn.q_proj.weight"
WEIGHTS = (0.6, -0.4)


@pytest.fixture(scope="module")
def pair(untied_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two plain adapters of one rank, the second with rsLoRA."""
    root = tmp_path_factory.mktemp("pair")
    base = untied_models / "base"
    return save_adapter(base, root / "one", 1), save_adapter(base, root / "two", 2, use_rslora=True)


def assert_is_dense_sum(base: Path, adapters: Sequence[Path], weights: Sequence[float], out: Path) -> Path:
    """Combine, write, fold what was written, and let PEFT load it."""
    opened = open_checkpoint(base)
    write_adapter(combine([open_adapter(one) for one in adapters], weights, opened), out, dtype="float32")
    expected = dense_sum(base, adapters, weights)
    folded = fold(opened, open_adapter(out))
    for name in opened.names:
        torch.testing.assert_close(folded.read(name).double(), expected[name], rtol=0, atol=1e-6)
    said = logits(with_adapter(base, out))
    assert_same_logits(logits_of(base, {name: tensor.float() for name, tensor in expected.items()}), said)
    assert (said - logits_of(base, {})).abs().max() > 1e-3
    return out


def test_the_weighted_sum_is_exact_and_keeps_a_bit_for_bit(
    untied_models: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out = assert_is_dense_sum(untied_models / "base", pair, WEIGHTS, tmp_path / "out")
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    stored = [load_file(folder / "adapter_model.safetensors") for folder in (*pair, out)]
    first, second, joined = (one[key.format("A")] for one in stored)
    assert torch.equal(joined, torch.cat([first, second]))
    first, second, joined = (one[key.format("B")] for one in stored)
    torch.testing.assert_close(joined, torch.cat([0.6 * 1.5 * first, -0.4 * 3 * second], 1), rtol=1e-6, atol=0)
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (8, 8, {}, {})
    assert config["base_model_name_or_path"] == str(untied_models / "base")


def test_peft_linear_is_another_thing(untied_models: Path, pair: tuple[Path, Path]) -> None:
    """PEFT's `linear` sums A and B apart, so that its product has cross terms; ours and its `cat` are the sum."""
    expected = dense_sum(untied_models / "base", pair, (0.6, 0.4))
    start = open_checkpoint(untied_models / "base").read(Q0).double()
    wanted = expected[Q0] - start
    model = with_adapter(untied_models / "base", pair[0])
    model.load_adapter(str(pair[1]), "two", torch_device="cpu")
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    errors = {}
    for kind in ("linear", "cat"):
        model.add_weighted_adapter(["default", "two"], [0.6, 0.4], kind, combination_type=kind)
        found = layer.get_delta_weight(kind).detach().double()
        errors[kind] = float((found - wanted).norm() / wanted.norm())
    ours = combine([open_adapter(one) for one in pair], (0.6, 0.4)).delta(Q0)
    assert ours is not None
    errors["ours"] = float((ours.double() - wanted).norm() / wanted.norm())
    assert errors["linear"] > 0.5, errors
    assert max(errors["cat"], errors["ours"]) < 1e-6, errors


MIXED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "other targets and ranks": ({"target_modules": ["q_proj", "up_proj"], "r": 2}, {"target_modules": ["q_proj"]}),
    "patterns": (
        {"rank_pattern": {"layers.0.self_attn.q_proj": 2}, "alpha_pattern": {"k_proj": 9}},
        {"rank_pattern": {"v_proj": 7}, "use_rslora": True},
    ),
    "embedding and head": ({"target_modules": ["embed_tokens", "lm_head"]}, {"target_modules": ["embed_tokens"]}),
    "modules to save, one of them": ({"modules_to_save": ["norm"]}, {}),
    "modules to save, both": ({"modules_to_save": ["lm_head", "norm"]}, {"modules_to_save": ["lm_head"]}),
    "one saves what the other adapts": ({"modules_to_save": ["lm_head"]}, {"target_modules": ["lm_head"]}),
    "trained tokens": ({"trainable_token_indices": [3, 5]}, {"trainable_token_indices": [5, 1, 2]}),
    "only trained tokens in common": (
        {"trainable_token_indices": [3, 5]},
        {"trainable_token_indices": [3, 5], "target_modules": ["o_proj"]},
    ),
}


@pytest.mark.parametrize("kinds", MIXED.values(), ids=MIXED.keys())
def test_adapters_of_other_kinds_combine_exactly_and_load_in_peft(
    untied_models: Path, tmp_path: Path, kinds: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    base = untied_models / "base"
    adapters = [save_adapter(base, tmp_path / str(seed), seed, **kind) for seed, kind in enumerate(kinds, 1)]
    assert_is_dense_sum(base, adapters, WEIGHTS, tmp_path / "out")


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_combine(tmp_path: Path, bias: str) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    base = tmp_path / "base"
    Qwen2ForCausalLM(config).save_pretrained(base)
    one = save_adapter(base, tmp_path / "1", 1, bias=bias, target_modules=["q_proj"])
    two = save_adapter(base, tmp_path / "2", 2, bias="lora_only", target_modules=["k_proj"])
    out = assert_is_dense_sum(base, (one, two), WEIGHTS, tmp_path / "out")
    assert json.loads((out / "adapter_config.json").read_text())["bias"] == bias


def test_layers_stored_the_other_way_round_combine(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    base = tmp_path / "base"
    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)).save_pretrained(base)
    adapters = [save_adapter(base, tmp_path / str(seed), seed, target_modules=["c_attn", "c_proj"]) for seed in (1, 2)]
    out = assert_is_dense_sum(base, adapters, WEIGHTS, tmp_path / "out")
    assert json.loads((out / "adapter_config.json").read_text())["fan_in_fan_out"] is True


def test_trained_tokens_of_a_tied_model_reach_its_head_in_peft(tied_models: Path, tmp_path: Path) -> None:
    base = tied_models / "base"
    adapters = [save_adapter(base, tmp_path / str(seed), seed, trainable_token_indices=[seed, 5]) for seed in (1, 2)]
    assert_is_dense_sum(base, adapters, WEIGHTS, tmp_path / "out")


def test_weights_may_differ_between_tensors(untied_models: Path, pair: tuple[Path, Path]) -> None:
    adapters = [open_adapter(one) for one in pair]
    merged = combine(adapters, lambda name: (1.0, 0.0) if ".0." in name else (0.25, 0.5))
    for name, weights in ((Q0, (1.0, 0.0)), (Q0.replace("layers.0", "layers.1"), (0.25, 0.5))):
        parts = [one.delta(name) for one in adapters]
        expected = sum(w * part.double() for w, part in zip(weights, parts, strict=True) if part is not None)
        found = merged.delta(name)
        assert found is not None
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    low = merged.changes[Q0].low_rank
    assert low is not None
    assert low.rank == 4  # an adapter of weight 0 adds no rank


def random_adapter(seed: int, ranks: Sequence[int], out: int, width: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)

    def held(*shape: int) -> Lazy:
        tensor = torch.randn(shape, generator=generator)
        return Lazy(shape, "float32", lambda: tensor)

    changes = {
        f"l.{index}.weight": Change(low_rank=LowRank(held(rank, width), held(out, rank), 0.5 + seed % 3))
        for index, rank in enumerate(ranks)
    }
    return Adapter(f"adapter {seed}", changes)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(-2, 2, width=32)), min_size=1, max_size=5),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_any_number_of_adapters_sums_exactly(parts: list[tuple[int, float]], out: int, width: int) -> None:
    adapters = [random_adapter(seed, [rank], out, width) for seed, (rank, _) in enumerate(parts)]
    weights = [weight for _, weight in parts]
    if not any(weights):
        with pytest.raises(InputError, match="all weights are 0, so"):
            combine(adapters, weights)
        return
    expected = torch.zeros(out, width, dtype=torch.float64)
    for adapter, weight in zip(adapters, weights, strict=True):
        low = adapter.changes["l.0.weight"].low_rank
        assert low is not None
        expected += weight * low.scale * (low.b.read().double() @ low.a.read().double())
    found = combine(adapters, weights).delta("l.0.weight")
    assert found is not None
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 10), st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_compression_loses_what_it_says(rank: int, wanted: int, out: int, width: int, seed: int) -> None:
    adapter = random_adapter(seed, [rank], out, width)
    smaller, errors = compress(adapter, wanted)
    before, after = adapter.delta("l.0.weight"), smaller.delta("l.0.weight")
    assert before is not None
    assert after is not None
    low = smaller.changes["l.0.weight"].low_rank
    assert low is not None
    assert low.rank <= wanted or rank <= wanted
    values = torch.linalg.svdvals(before.double())
    best = float(values[wanted:].norm() / values.norm())  # Eckart and Young: no other of this rank is nearer
    assert errors["l.0.weight"] == pytest.approx(best, abs=1e-6)
    assert float((before - after).norm() / before.norm()) == pytest.approx(best, abs=2e-6)


def test_a_change_of_zero_compresses_without_error() -> None:
    zero = Lazy((4, 4), "float32", lambda: torch.zeros(4, 4))
    adapter = Adapter("zero", {"w": Change(low_rank=LowRank(zero, zero, 1.0))})
    smaller, errors = compress(adapter, 2)
    assert errors == {"w": 0.0}
    delta = smaller.delta("w")
    assert delta is not None
    assert not delta.any()


def params(method: str, experts: int, **given: Any) -> dict[str, Any]:
    return Merge(method, tuple(given.items())).at(experts, "", 0.0)


def test_which_merges_are_adapters() -> None:
    assert adapter_weights("linear", params("linear", 2, weight=(1.0, 3.0)), 2) == (0.25, 0.75)
    assert adapter_weights("linear", params("linear", 2, weight=(0.4, 0.6), normalize=False), 2) == (0.4, 0.6)
    task = params("task_arithmetic", 2, weight=(1.0, -3.0), lambda_=0.5)
    assert adapter_weights("task_arithmetic", task, 2) == (0.5, -1.5)
    task = params("task_arithmetic", 2, weight=(1.0, 3.0), lambda_=0.5, normalize=True)
    assert adapter_weights("task_arithmetic", task, 2) == (0.125, 0.375)
    scaled = params("linear", 2, weight=(1.0, 3.0), normalize=False)
    assert linear_weights("linear", scaled, 2) == (4.0, (1.0, 3.0))
    with pytest.raises(InputError, match=r"linear weights \[1.0, 3.0\] sum to 4, so the merge scales the base"):
        adapter_weights("linear", scaled, 2)
    with pytest.raises(InputError, match="a merge by ties cannot be kept as low-rank factors"):
        adapter_weights("ties", {"weight": 1.0}, 2)


def test_linear_merges_of_folded_models_are_the_combined_adapter(untied_models: Path, pair: tuple[Path, Path]) -> None:
    base = open_checkpoint(untied_models / "base")
    adapters = [open_adapter(one) for one in pair]
    experts = [fold(base, adapter).read(Q0) for adapter in adapters]
    from mergers.linear import linear
    from mergers.task_arithmetic import task_arithmetic

    found = {
        "linear": linear(experts, weight=(1.0, 3.0)),
        "task_arithmetic": task_arithmetic(base.read(Q0), experts, weight=(1.0, 3.0), lambda_=0.5),
    }
    given = {"linear": {}, "task_arithmetic": {"lambda_": 0.5}}
    for method, merged in found.items():
        weights = adapter_weights(method, params(method, 2, weight=(1.0, 3.0), **given[method]), 2)
        ours = fold(base, combine(adapters, weights)).read(Q0)
        torch.testing.assert_close(ours, merged, rtol=0, atol=1e-6)


def test_what_needs_the_base_says_so(untied_models: Path, tmp_path: Path) -> None:
    path = untied_models / "base"
    saves = [open_adapter(save_adapter(path, tmp_path / f"s{n}", n, modules_to_save=["norm"])) for n in (1, 2)]
    tokens = [open_adapter(save_adapter(path, tmp_path / f"t{n}", n, trainable_token_indices=[1, n])) for n in (2, 3)]
    for adapters, name in ((saves, "model.norm.weight"), (tokens, "model.embed_tokens.weight")):
        with pytest.raises(InputError, match="give the base too") as caught:
            combine(adapters, (0.7, 0.7))
        assert "\n" not in str(caught.value)
        assert name in combine(adapters, (0.7, 0.7), open_checkpoint(path)).changes
    replaced = combine(saves, (0.25, 0.75)).changes["model.norm.weight"].replacement  # weights of 1: no base needed
    assert replaced is not None
    parts = [one.changes["model.norm.weight"].replacement for one in saves]
    expected = sum(w * part.read().double() for w, part in zip((0.25, 0.75), parts, strict=True) if part)
    torch.testing.assert_close(replaced.read().double(), expected, rtol=0, atol=1e-7)


def test_what_cannot_be_combined_is_refused_in_one_line(
    untied_models: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base = untied_models / "base"
    plain, scaled = (open_adapter(one) for one in pair)
    dora = open_adapter(save_adapter(base, tmp_path / "dora", 1, use_dora=True))
    whole = open_adapter(save_adapter(base, tmp_path / "whole", 1, modules_to_save=["embed_tokens"]))
    tokens = open_adapter(save_adapter(base, tmp_path / "tokens", 1, trainable_token_indices=[1]))
    narrow = random_adapter(1, [2], 3, 4)
    wide = random_adapter(2, [2], 3, 5)
    cases: list[tuple[list[Adapter], tuple[float, ...], str]] = [
        ([plain, scaled], (0.0, 0.0), "all weights are 0, so the merge is the base"),
        ([plain, scaled], (1.0,), r"2 adapters need as many finite weights, got \[1.0\]"),
        ([plain, scaled], (1.0, float("nan")), "finite weights"),
        ([plain, dora], (0.5, 0.5), "is a DoRA adapter .use_dora.*; merge it as a full model"),
        ([tokens, whole], (0.5, 0.5), "changes all of model.embed_tokens.weight, another adapter only trained tokens"),
        ([narrow, wide], (0.5, 0.5), r"adapter 2 changes l.0.weight as linear \[3, 5\], adapter 1 as linear \[3, 4\]"),
    ]
    for adapters, weights, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            combine(adapters, weights, open_checkpoint(base))
        assert "\n" not in str(caught.value)
    writing = partial(write_adapter, dora, tmp_path / "no", dtype="float32")
    for refused in (partial(dora.delta, Q0), partial(compress, dora, 2), writing):
        with pytest.raises(InputError, match="is a DoRA adapter"):
            refused()
    assert not (tmp_path / "no").exists()


def test_copies_of_the_base_are_left_out(untied_models: Path, tmp_path: Path) -> None:
    """PEFT saves the whole embedding beside its factors, changed or not."""
    base = untied_models / "base"
    adapters = [open_adapter(save_adapter(base, tmp_path / str(n), n, target_modules=["embed_tokens"])) for n in (1, 2)]
    name = "model.embed_tokens.weight"
    assert adapters[0].changes[name].replacement is not None
    assert combine(adapters, (0.25, 0.75)).changes[name].replacement is not None
    merged = combine(adapters, WEIGHTS, open_checkpoint(base)).changes[name]
    assert merged.replacement is None
    assert merged.low_rank is not None
