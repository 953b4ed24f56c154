"""What comes out, against other libraries: TRL alone, PEFT, our own mergers, TensorBoard."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.tiny import PLAIN, preferences, samples, source, spec, write_base, write_rows
from trainers._schema import check_options, run_trainer
from trainers._types import Lora, Placement, TrainSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run(name: str, made: TrainSpec, folder: Path, placement: Placement = PLAIN) -> dict[str, Any]:
    out, work = str(folder / "out"), str(folder / "work")
    run_trainer(name, made, out=out, work=work, report=lambda _: None, placement=placement)
    record: dict[str, Any] = json.loads((folder / "out" / "training.json").read_text())
    return record


def world(folder: Path, rows: Any, **changes: Any) -> TrainSpec:
    base = write_base(folder / "base")
    return spec(base, source("a", write_rows(folder / "a.jsonl", rows("alpha", 64))), **changes)


def test_dpo_is_that_of_plain_trl(tmp_path: Path) -> None:
    """The same rows in the same order through TRL without DeepSpeed: losses, margins and weights."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from trainers import dpo
    from trainers._data import mixture

    made = world(tmp_path, preferences, steps=8, options=check_options("dpo", {"beta": 0.3, "loss_type": "ipo"}))
    record = run("dpo", made, tmp_path)
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    rows = mixture(made, dpo.COLUMNS).rows.remove_columns("group")
    rows = rows.map(lambda row: {key: [{"role": role, "content": row[key]}] for key, role in roles.items()})
    plain = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(made.base, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(tmp_path / "plain"),
            max_steps=8,
            per_device_train_batch_size=8,
            learning_rate=made.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(0.1 * 8),
            max_length=32,
            bf16=False,
            use_cpu=True,
            beta=0.3,
            loss_type=["ipo"],
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            activation_checkpointing=False,
            report_to="none",
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(made.base),
    )
    plain.train()
    logs = [entry for entry in plain.state.log_history if "loss" in entry]
    assert record["loss"] == pytest.approx([entry["loss"] for entry in logs], rel=1e-4)
    margins = [entry["rewards/margins"] for entry in logs]
    assert record["curves"]["rewards/margins"] == pytest.approx(margins, rel=1e-3, abs=1e-5)
    trained = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in plain.model.state_dict().items():
        if name in trained:
            torch.testing.assert_close(trained[name], tensor, rtol=1e-3, atol=2e-5)


def test_dpo_learns_what_is_preferred(tmp_path: Path) -> None:
    record = run("dpo", world(tmp_path, preferences, steps=40, batch=16), tmp_path)
    assert record["curves"]["rewards/accuracies"][-1] == 1.0
    assert record["loss"][-1] < 0.5 * record["loss"][0]


def test_grpo_raises_its_reward(tmp_path: Path) -> None:
    options = {"reward": "tests.trainers.rewards:early_letters", "generations": 8, "completion_tokens": 6}
    made = world(tmp_path, samples, steps=40, batch=32, learning_rate=1e-2, options=check_options("grpo", options))
    record = run("grpo", made, tmp_path)
    rewards = record["curves"]["reward"]
    assert sum(rewards[-5:]) / 5 > 3 * sum(rewards[:5]) / 5
    assert record["tokens"]["a"]["samples"] == 40 * 32


def test_remix_gives_weight_to_what_can_still_be_learnt(tmp_path: Path) -> None:
    """One source is a function of the prompt, the other noise that no reference learns: no excess is left there."""
    import random

    draw = random.Random(0)
    noise: list[dict[str, object]] = [
        {"prompt": f"noise {n}", "response": "".join(draw.choices("uvwxyz", k=3)), "language": "en"} for n in range(400)
    ]
    base = write_base(tmp_path / "base")
    made = spec(
        base,
        source("rule", write_rows(tmp_path / "r.jsonl", samples("alpha", 64)), 0.5),
        source("noise", write_rows(tmp_path / "n.jsonl", noise), 0.5),
        steps=60,
        batch=16,
        learning_rate=1e-2,
        options=check_options("remix", {"eta": 1.0, "smoothing": 0.01}),
    )
    record = run("remix", made, tmp_path)
    mixture = json.loads((tmp_path / "out" / "mixture.json").read_text())
    found = {entry["source"]: entry["probability"] for entry in mixture["domains"]}
    assert sum(found.values()) == pytest.approx(1)
    assert found["rule"] > 0.6
    assert len(mixture["trajectory"]) == 60
    assert record["steps"] == 120
    assert record["curves"]["second/weight/rule"] == pytest.approx([alpha[0] for alpha in mixture["trajectory"]])


def test_an_adapter_is_an_expert(tmp_path: Path) -> None:
    """PEFT loads it, our mergers fold it to the same weights, and it can be the start of the next training."""
    import torch
    from peft import AutoPeftModelForCausalLM

    from mergers._adapter.fold import fold
    from mergers._adapter.open import open_adapter
    from mergers._checkpoint.checkpoint import open_checkpoint

    made = world(tmp_path, samples, lora=Lora(r=4, targets=("q_proj", "down_proj")))
    record = run("sft", made, tmp_path)
    out = tmp_path / "out"
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == made.base
    assert record["parameters"]["trained"] == 2 * (4 * (32 + 32) + 4 * (64 + 32))
    whole = AutoPeftModelForCausalLM.from_pretrained(str(out), dtype=torch.float32).merge_and_unload().state_dict()
    base = open_checkpoint(made.base)
    folded = fold(base, open_adapter(out))
    changed = [name for name in base.names if name.endswith(("q_proj.weight", "down_proj.weight"))]
    assert len(changed) == 4
    for name in changed:
        torch.testing.assert_close(folded.read(name).float(), whole[name], rtol=1e-6, atol=1e-7)
    further = run("sft", replace(world(tmp_path, samples, steps=2), base=str(out)), tmp_path / "next")
    assert further["spec"]["base"] == str(out)


def test_steps_reach_the_trackers(tmp_path: Path) -> None:
    record = run("sft", world(tmp_path, samples), tmp_path, Placement(zero=0, report_to=("tensorboard",)))
    files = list((tmp_path / "work").glob("**/events.out.tfevents.*"))
    assert files
    content = b"".join(file.read_bytes() for file in files)
    assert b"train/loss" in content
    assert content.count(b"train/loss") >= record["steps"]
