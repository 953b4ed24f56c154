"""Every trainer, cut off between two steps, goes on from its checkpoint to the result of an uncut one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.tiny import preferences, samples, source, spec, write_base, write_rows
from trainers._schema import check_options, run_trainer
from trainers._types import Lora, Placement, TrainSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SAVING = Placement(zero=2, save_every=2, micro_batch=4)
GRPO = {"reward": "tests.trainers.rewards:early_letters", "generations": 4, "completion_tokens": 6, "beta": 0.05}


class Interrupt(Exception):
    """Stands in for whatever ends a process between two steps."""


def run(name: str, made: TrainSpec, folder: Path, stop_at: int = 0) -> list[float]:
    steps: list[float] = []

    def report(metrics: Any) -> None:
        steps.append(metrics["step"])
        if metrics["step"] == stop_at:
            raise Interrupt

    out, work = str(folder / "out"), str(folder / "work")
    run_trainer(name, made, out=out, work=work, report=report, placement=SAVING)
    return steps


@pytest.mark.parametrize(
    ("name", "stop_at", "resumed_at"),
    [("sft-lora", 5, 4), ("dpo", 5, 4), ("grpo", 5, 4), ("remix", 3, 2), ("remix", 11, 10)],
)
def test_it_goes_on(tmp_path: Path, name: str, stop_at: int, resumed_at: int) -> None:
    import torch
    from safetensors.torch import load_file

    trainer, _, lora = name.partition("-")
    rows = preferences if trainer == "dpo" else samples
    made = spec(
        write_base(tmp_path / "base"),
        source("a", write_rows(tmp_path / "a.jsonl", rows("alpha", 60)), 0.6),
        source("b", write_rows(tmp_path / "b.jsonl", rows("be", 40)), 0.4),
        steps=6,
        options=check_options(trainer, GRPO if trainer == "grpo" else {}),
    )
    made = replace(made, lora=Lora(r=4) if lora else None)
    whole = run(trainer, made, tmp_path / "whole")
    with pytest.raises(Interrupt):
        run(trainer, made, tmp_path / "cut", stop_at)
    assert not (tmp_path / "cut" / "out").exists()
    assert run(trainer, made, tmp_path / "cut") == list(range(resumed_at + 1, len(whole) + 1))
    first, second = (json.loads((tmp_path / one / "out" / "training.json").read_text()) for one in ("whole", "cut"))
    assert second["resumed_at"] == resumed_at
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-5, abs=1e-7)
    for key in ("step", "tokens", "languages", "flops"):
        assert second[key] == first[key]
    if trainer == "remix":
        texts = [(tmp_path / one / "out" / "mixture.json").read_text() for one in ("whole", "cut")]
        for mine, uncut in zip(*(json.loads(text)["trajectory"] for text in reversed(texts)), strict=True):
            assert mine == pytest.approx(uncut)
        return
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    weights = load_file(tmp_path / "cut" / "out" / file)
    for key, tensor in load_file(tmp_path / "whole" / "out" / file).items():
        torch.testing.assert_close(weights[key], tensor, rtol=1e-5, atol=1e-7)
