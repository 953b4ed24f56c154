import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.tiny import PLAIN, letters, source, spec, write_base, write_rows
from trainers._errors import TrainingError
from trainers._types import Placement, TrainSpec
from trainers._zero import zero_config
from trainers.sft import sft

SAVING = Placement(zero=0, save_every=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    folder = tmp_path_factory.mktemp("world")
    return spec(
        write_base(folder / "base"),
        source("alpha", write_rows(folder / "a.jsonl", letters("alpha", 60)), 0.7),
        source("beta", write_rows(folder / "b.jsonl", letters("beta", 40)), 0.3),
    )


def run(
    made: TrainSpec, folder: Path, report: Any = lambda metrics: None, placement: Placement = PLAIN
) -> dict[str, Any]:
    sft(made, out=str(folder / "out"), work=str(folder / "work"), report=report, placement=placement)
    record: dict[str, Any] = json.loads((folder / "out" / "training.json").read_text())
    return record


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "out" / "model.safetensors").read_bytes()).hexdigest()


def test_it_learns_and_the_result_answers_in_plain_transformers(made: TrainSpec, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = run(replace(made, steps=150, batch=32, learning_rate=1e-2), tmp_path)
    assert record["loss"][-1] < 0.3 * record["loss"][0]
    assert record["steps"] == 150
    assert record["step"] == list(range(1, 151))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "alpha c"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer).strip().startswith("ad")
    assert answer[-1] == tokenizer.eos_token_id


def test_what_was_trained_on_is_counted(made: TrainSpec, tmp_path: Path) -> None:
    record = run(made, tmp_path)
    counts = record["tokens"]
    assert counts["alpha"]["samples"] + counts["beta"]["samples"] == made.steps * made.batch
    assert counts["alpha"]["samples"] > counts["beta"]["samples"] > 0
    # Completion, then the end of the sequence: space, two letters, </s>.
    assert all(entry["loss_tokens"] == 4 * entry["samples"] for entry in counts.values())
    assert record["seconds"] > 0
    assert record["peak_rss_bytes"] > 2**26
    assert record["resumed_at"] is None


def test_truncation_is_counted(made: TrainSpec, tmp_path: Path) -> None:
    counts = run(replace(made, max_length=12), tmp_path)["tokens"]
    # "<s><|user|> alpha a<|assistant|> bb</s>" has 14 tokens and " beta" one less.
    assert counts["alpha"]["truncated"] == counts["alpha"]["samples"]
    assert counts["alpha"]["tokens"] == 12 * counts["alpha"]["samples"]


def test_a_seed_gives_the_same_weights_and_another_one_does_not(made: TrainSpec, tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((1, 1, 2)):
        run(replace(made, seed=seed), tmp_path / str(number))
        digests.append(digest(tmp_path / str(number)))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_stage_gives_the_same_model(made: TrainSpec, tmp_path: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import load_file

    found = []
    for zero in (0, 1, 2, 3):
        record = run(replace(made, dtype=dtype), tmp_path / str(zero), placement=Placement(zero))  # type: ignore[arg-type]
        weights = load_file(tmp_path / str(zero) / "out" / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {getattr(torch, dtype)}
        found.append((record["loss"], weights))
    exact = dtype == "float32"
    for losses, weights in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-5 if exact else 5e-3)
        for name, tensor in weights.items():
            torch.testing.assert_close(
                tensor, found[0][1][name], rtol=1e-4 if exact else 0.05, atol=1e-6 if exact else 2e-3
            )


def test_stage_0_in_bfloat16_keeps_float32_masters(made: TrainSpec) -> None:
    assert zero_config(PLAIN, replace(made, dtype="bfloat16"))["zero_optimization"]["stage"] == 1
    assert zero_config(PLAIN, made)["zero_optimization"]["stage"] == 0


class Interrupt(Exception):
    """Stands in for whatever ends a process between two steps."""


@pytest.mark.parametrize("zero", [2, 3])
def test_it_continues_from_the_last_complete_checkpoint(made: TrainSpec, tmp_path: Path, zero: int) -> None:
    saving, placement = replace(made, steps=8), Placement(zero, save_every=2)
    whole = run(saving, tmp_path / "whole", placement=placement)

    def stop(metrics: Any) -> None:
        if metrics["step"] == 6:
            raise Interrupt

    with pytest.raises(Interrupt):
        run(saving, tmp_path / "cut", stop, placement)
    # Steps 2 and 4 were saved; make the newer one incomplete, as a kill during its writing would.
    assert (tmp_path / "cut" / "work" / "checkpoint-4" / "complete.json").is_file()
    assert not (tmp_path / "cut" / "out").exists()
    (tmp_path / "cut" / "work" / "checkpoint-4" / "complete.json").unlink()
    steps: list[float] = []
    record = run(saving, tmp_path / "cut", lambda metrics: steps.append(metrics["step"]), placement)
    assert steps == [3, 4, 5, 6, 7, 8]
    assert record["resumed_at"] == 2
    assert record["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert record["tokens"] == whole["tokens"]
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


def test_a_checkpoint_of_another_training_is_passed_over(made: TrainSpec, tmp_path: Path) -> None:
    run(made, tmp_path, placement=SAVING)
    (tmp_path / "out").rename(tmp_path / "first")
    assert run(replace(made, learning_rate=1e-3), tmp_path, placement=SAVING)["resumed_at"] is None


def test_a_diverged_loss_ends_the_run_at_once(made: TrainSpec, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = Path(write_base(tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"].fill_(math.nan)
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    steps: list[float] = []
    with pytest.raises(TrainingError, match="the loss is nan at step 1 of 4"):
        run(replace(made, base=str(base)), tmp_path, lambda metrics: steps.append(metrics["step"]))
    assert steps == []
    assert not (tmp_path / "out").exists()


def test_a_failed_run_leaves_no_half_result_and_no_variables(made: TrainSpec, tmp_path: Path) -> None:
    import os

    def fail(metrics: Any) -> None:
        raise Interrupt

    before = dict(os.environ)
    with pytest.raises(Interrupt):
        run(made, tmp_path, fail)
    assert not (tmp_path / "out").exists()
    assert {key: value for key, value in os.environ.items() if before.get(key) != value} == {}
