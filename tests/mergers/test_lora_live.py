"""Candidates over LoRA experts in a live model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mergers._adapter.combine import linear_weights
from mergers._adapter.factors import LowRankMerge
from mergers._adapter.fold import fold
from mergers._adapter.open import open_adapter
from mergers._checkpoint.checkpoint import open_checkpoint
from mergers._errors import InputError
from mergers._spec import Merge
from mergers.linear import linear
from mergers.task_arithmetic import task_arithmetic

from .peft_adapters import EMBEDDING, HEAD, QKV, load, save_adapter, store_head, tie

QKV_WEIGHTS = tuple(f"{part}.weight" for part in QKV)

SETTINGS: tuple[dict[str, Any], ...] = (
    {"use_rslora": True},
    {"target_modules": ["q_proj", "down_proj", "embed_tokens"], "r": 3},
    {"modules_to_save": ["norm", "lm_head"]},
    {"trainable_token_indices": [4, 9], "target_modules": ["o_proj"]},
)


@pytest.fixture(scope="module")
def adapters(untied_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    root = tmp_path_factory.mktemp("live")
    return tuple(
        save_adapter(untied_models / "base", root / str(seed), seed, **settings)
        for seed, settings in enumerate(SETTINGS)
    )


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_candidate_is_the_merge_of_the_folded_experts(
    untied_models: Path, adapters: tuple[Path, ...], method: str, normalize: bool
) -> None:
    base = open_checkpoint(untied_models / "base")
    opened = [open_adapter(one) for one in adapters]
    folded = [fold(base, one) for one in opened]
    live = load(untied_models / "two").state_dict()  # another expert's weights: everything must be overwritten
    merge = LowRankMerge(base, opened)
    for weight in ((0.3, 0.5, -0.2, 0.9), (1.0, 0.0, 0.0, 0.0)):
        params = Merge(method, (("weight", weight), ("normalize", normalize))).at(4, "", 0.0)
        factor, weights = linear_weights(method, params, 4)
        merge.apply(live, weights, factor)
        for name in base.names:
            experts = [one.read(name).float() for one in folded]
            if method == "linear":
                expected = linear(experts, weight=weight, normalize=normalize)
            else:
                expected = task_arithmetic(base.read(name), experts, weight=weight, normalize=normalize)
            torch.testing.assert_close(live[name], expected, rtol=0, atol=2e-6)


def test_the_live_type_is_reached_with_one_rounding(untied_models: Path, adapters: tuple[Path, ...]) -> None:
    base = open_checkpoint(untied_models / "base")
    merge = LowRankMerge(base, [open_adapter(one) for one in adapters])
    weights = (0.3, 0.5, -0.2, 0.9)
    live = {name: tensor.bfloat16() for name, tensor in load(untied_models / "base").state_dict().items()}
    merge.apply(live, weights)
    assert all(torch.equal(live[name], merge.merged(name, weights).bfloat16()) for name in base.names)


def test_only_changed_tensors_need_be_written_again(untied_models: Path, adapters: tuple[Path, ...]) -> None:
    base = open_checkpoint(untied_models / "base")
    merge = LowRankMerge(base, [open_adapter(adapters[0])])
    assert merge.changed == tuple(
        name for name in base.names if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    )
    live = load(untied_models / "base").state_dict()
    live["model.norm.weight"].fill_(7)
    merge.apply(live, (0.5,), untouched=False)
    assert (live["model.norm.weight"] == 7).all()
    q0 = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(live[q0], merge.merged(q0, (0.5,)))
    assert not torch.equal(live[q0], base.read(q0))
    merge.apply(live, (0.0,))
    assert all(torch.equal(live[name], base.read(name)) for name in base.names)


def test_tied_heads_are_written_once_and_untied_ones_refused(tied_models: Path, tmp_path: Path) -> None:
    base = open_checkpoint(tied_models / "base")
    tokens = open_adapter(save_adapter(tied_models / "base", tmp_path / "tokens", 1, trainable_token_indices=[3]))
    model = load(tied_models / "base")
    before = model.lm_head.weight.detach().clone()
    LowRankMerge(base, [tokens]).apply(model.state_dict(), (0.5,))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    rows = (model.lm_head.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert rows == [3]
    both = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    saved = save_adapter(tied_models / "base", tmp_path / "saved", 1, **both)
    tie(saved)
    LowRankMerge(base, [open_adapter(saved)]).apply(model.state_dict(), (0.5,))
    expected = (base.read(EMBEDDING) + fold(base, open_adapter(saved)).read(EMBEDDING)) / 2
    torch.testing.assert_close(model.lm_head.weight.detach(), expected, rtol=0, atol=1e-6)
    untying = open_adapter(save_adapter(tied_models / "base", tmp_path / "head", 1, target_modules=["lm_head"]))
    with pytest.raises(InputError, match="has an output head of its own"):
        LowRankMerge(base, [untying])


def test_trained_tokens_reach_a_stored_head_that_the_config_ties(tied_models: Path, tmp_path: Path) -> None:
    path = store_head(tied_models / "base", tmp_path / "base")
    tokens = open_adapter(save_adapter(path, tmp_path / "tokens", 1, trainable_token_indices=[3]))
    merge = LowRankMerge(open_checkpoint(path), [tokens])
    assert merge.changed[:2] == (HEAD, EMBEDDING)
    assert torch.equal(merge.merged(HEAD, (0.5,)), merge.merged(EMBEDDING, (0.5,)))


def test_errors_are_one_line(untied_models: Path, adapters: tuple[Path, ...], tmp_path: Path) -> None:
    base = open_checkpoint(untied_models / "base")
    merge = LowRankMerge(base, [open_adapter(adapters[0])])
    dora = open_adapter(save_adapter(untied_models / "base", tmp_path / "dora", 1, use_dora=True))
    with pytest.raises(InputError, match="is a DoRA adapter"):
        LowRankMerge(base, [dora])
    with pytest.raises(InputError, match="1 adapters need as many weights, got 2"):
        merge.apply({"model.norm.weight": torch.zeros(16)}, (1.0, 2.0))
    with pytest.raises(InputError, match=r"the live model.norm.weight is \[3\], the base \[16\]"):
        merge.apply({"model.norm.weight": torch.zeros(3)}, (1.0,))
    with pytest.raises(InputError, match="tensor other of the live model is not in base"):
        merge.apply({"other": torch.zeros(3)}, (1.0,))
