"""What is refused before anything is loaded, or before the first step."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.tiny import PLAIN, letters, source, spec, write_base, write_rows
from trainers._check import check_lora_targets, check_placement, check_spec
from trainers._errors import InputError
from trainers._types import Lora, Placement, TrainSpec, placement_from_dict, spec_from_dict
from trainers._zero import preset_names, zero_config
from trainers.grpo import grpo
from trainers.remix import remix
from trainers.sft import sft


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    folder = tmp_path_factory.mktemp("world")
    return spec(write_base(folder / "base"), source("a", write_rows(folder / "a.jsonl", letters("alpha", 20))))


def refused(trainer: Any, made: TrainSpec, folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        trainer(made, out=str(folder / "out"), work=str(folder / "work"), report=pytest.fail, **options)
    assert not (folder / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zero": 4}, "zero must be 0, 1, 2 or 3, got 4"),
        ({"zero": 0, "offload": True}, "offload needs ZeRO stage 1, 2 or 3"),
        ({"save_every": -1}, "save_every must not be negative"),
        ({"micro_batch": 3}, r"micro_batch 3 does not divide .* choose one of 1, 2, 4, 8"),
        ({"report_to": ("tensorbored",)}, "report_to cannot be 'tensorbored'; it can be tensorboard, wandb, mlflow"),
    ],
)
def test_layouts_that_cannot_hold(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_placement(replace(Placement(), **changes), 8)


def test_a_tracker_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="report_to wandb needs the package wandb; pip install wandb"):
        check_placement(Placement(report_to=("wandb",)), 8)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (Lora(r=0), "r of lora must be at least 1"),
        (Lora(alpha=0), "alpha of lora must be above 0"),
        (Lora(dropout=1.0), r"dropout of lora must be in \[0, 1\)"),
    ],
)
def test_adapters_that_cannot_be(made: TrainSpec, lora: Lora, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_spec(replace(made, lora=lora))


def test_targets_are_endings_of_module_names() -> None:
    modules = ("", "model", "model.layers.0", "model.layers.0.self_attn.q_proj", "lm_head")
    check_lora_targets(("q_proj", "self_attn.q_proj", "lm_head"), modules)
    with pytest.raises(InputError, match=r"ends in 'proj' \(lora.targets\); there are model, q_proj, lm_head"):
        check_lora_targets(("proj",), modules)


def test_an_adapter_on_nothing_ends_before_the_first_step(made: TrainSpec, tmp_path: Path) -> None:
    text = refused(sft, replace(made, lora=Lora(targets=("q_proj", "query"))), tmp_path, placement=PLAIN)
    assert "no module of the model ends in 'query'" in text
    assert "q_proj" in text


def test_sequences_longer_than_the_model_allows(made: TrainSpec, tmp_path: Path) -> None:
    text = refused(sft, replace(made, max_length=65), tmp_path)
    assert text == "max_length is 65 and the model has 64 positions; lower max_length to 64"


def test_a_base_that_is_none(made: TrainSpec, tmp_path: Path) -> None:
    assert "cannot be read" in refused(sft, replace(made, base=str(tmp_path)), tmp_path)


def test_what_grpo_and_remix_refuse(made: TrainSpec, tmp_path: Path) -> None:
    reward = "trainers.rewards:exact"
    text = refused(grpo, made, tmp_path, reward=reward, generations=3)
    assert text == "batch 8 completions do not divide by 3 generations for each prompt; make batch a multiple"
    text = refused(grpo, made, tmp_path, reward=reward, completion_tokens=32)
    assert text == "completion_tokens 32 leaves no room for a prompt in max_length 32"
    assert "leave lora out" in refused(remix, replace(made, lora=Lora()), tmp_path)


def test_presets_are_complete_configurations(made: TrainSpec) -> None:
    assert preset_names() == (*("zero0", "zero1", "zero1-offload", "zero2", "zero2-offload", "zero3", "zero3-offload"),)
    for zero in range(4):
        assert zero_config(Placement(zero), made)["zero_optimization"]["stage"] == zero
    offloaded = zero_config(Placement(3, offload=True), made)["zero_optimization"]
    assert offloaded["offload_optimizer"]["device"] == offloaded["offload_param"]["device"] == "cpu"
    assert zero_config(Placement(deepspeed="zero2"), made) == zero_config(Placement(2), made)


def own(folder: Path, content: Any) -> Placement:
    file = folder / "ds.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return Placement(micro_batch=4, deepspeed=str(file))


def test_a_configuration_of_ones_own(made: TrainSpec, tmp_path: Path) -> None:
    agreeing = {
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": 2,
        "bf16": {"enabled": False},
        "zero_optimization": {"stage": 3, "stage3_prefetch_bucket_size": 1000},
    }
    config = zero_config(own(tmp_path, agreeing), made)
    assert config["zero_optimization"]["stage3_prefetch_bucket_size"] == 1000
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert config["zero_force_ds_cpu_optimizer"] is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train_batch_size": 16}, "train_batch_size is 16 there and 8 here"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps is 1 there and 2 here"),
        ({"optimizer": {"type": "AdamW"}}, "optimizer is what learning_rate, weight_decay, warmup and schedule say"),
        ({"scheduler": {}}, "scheduler is what"),
        ({"bf16": {"enabled": True}}, "bf16.enabled is true there and dtype is float32 here"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is true"),
        ({"zero_optimization": {"stage": 5}}, "zero_optimization.stage must be 0, 1, 2 or 3, got 5"),
        ({"zero_optimization": 2}, "zero_optimization must be an object"),
        ({"zero_force_ds_cpu_optimizer": True}, "would compile"),
        ("{", "is no JSON"),
        ([], "must be an object, got list"),
    ],
)
def test_configurations_that_contradict(made: TrainSpec, tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        zero_config(own(tmp_path, content), made)
    assert message in str(caught.value)


def test_every_contradiction_is_named(made: TrainSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train_batch_size is 16 .*; scheduler is what"):
        zero_config(own(tmp_path, {"train_batch_size": 16, "scheduler": {}}), made)
    with pytest.raises(InputError, match=r"zero9 cannot be read .*one of zero0, zero1"):
        zero_config(Placement(deepspeed="zero9"), made)


def test_values_survive_json(made: TrainSpec) -> None:
    full = replace(made, lora=Lora(targets=("q_proj",)), options=(("beta", 0.1),))
    assert spec_from_dict(json.loads(json.dumps(asdict(full)))) == full
    placement = Placement(zero=3, report_to=("wandb",))
    assert placement_from_dict(json.loads(json.dumps(asdict(placement)))) == placement
    with pytest.raises(InputError, match="a placement has no setting 'stage'"):
        placement_from_dict({"stage": 3})
