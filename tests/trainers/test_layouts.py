"""However a training is laid out, it is the same training: weights within rounding over stages, workers and cuts."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.group import case, run_group
from tests.trainers.tiny import preferences, samples, source, spec, write_base, write_rows
from trainers._schema import check_options
from trainers._types import Lora, Placement, TrainSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LAYOUTS = {
    1: (
        Placement(zero=0),
        Placement(zero=0, micro_batch=2),
        Placement(zero=1, micro_batch=4),
        Placement(zero=2, activation_checkpointing=True),
        Placement(zero=2, offload=True),
        Placement(zero=3, micro_batch=2),
        Placement(zero=3, offload=True),
    ),
    2: (
        Placement(zero=0, micro_batch=2),
        Placement(zero=1),
        Placement(zero=2, micro_batch=1),
        Placement(zero=3, micro_batch=2, activation_checkpointing=True),
    ),
}
FEW = {1: (Placement(zero=0), Placement(zero=2, micro_batch=4)), 2: (Placement(zero=3, micro_batch=2),)}
OPTIONS: dict[str, dict[str, Any]] = {
    "grpo": {
        "reward": "tests.trainers.rewards:early_letters",
        "generations": 4,
        "completion_tokens": 6,
        "beta": 0.05,
    },
    "remix": {"domains": "language"},
}


def made(folder: Path, trainer: str, **changes: Any) -> TrainSpec:
    rows = preferences if trainer == "dpo" else samples
    options = OPTIONS.get(trainer, {})
    return spec(
        write_base(folder / "base"),
        source("a", write_rows(folder / f"{trainer}-a.jsonl", rows("alpha", 60)), 0.6),
        source("b", write_rows(folder / f"{trainer}-b.jsonl", rows("be", 40)), 0.4),
        **{"options": check_options(trainer, options), **changes},
    )


def results(folder: Path, trainer: str, wanted: TrainSpec, layouts: dict[int, tuple[Placement, ...]]) -> list[Path]:
    outs = []
    for workers, placements in layouts.items():
        cases = [
            case(folder, f"{workers}-{number}", trainer, wanted, placement)
            for number, placement in enumerate(placements)
        ]
        run_group(folder, cases, workers)
        outs += [Path(entry["out"]) for entry in cases]
    errors = {out.name: error.read_text() for out in outs if (error := Path(f"{out}.error")).is_file()}
    assert errors == {}
    return outs


def same(outs: list[Path], file: str, *, exact: bool = True) -> None:
    """Equal counts and losses, and weights within rounding.

    In bfloat16 gradients are rounded where they are added up, over micro batches and workers, and Adam makes whole
    steps of small differences: their norm is compared with that of what the training changed.
    """
    import torch
    from safetensors.torch import load_file

    records = [json.loads((out / "training.json").read_text()) for out in outs]
    for out, record in zip(outs[1:], records[1:], strict=True):
        assert record["tokens"] == records[0]["tokens"]
        assert record["languages"] == records[0]["languages"]
        assert record["flops"] == records[0]["flops"]
        assert record["loss"] == pytest.approx(records[0]["loss"], rel=1e-4 if exact else 1e-2, abs=1e-5)
        first, other = load_file(outs[0] / file), load_file(out / file)
        assert first.keys() == other.keys()
        if exact:
            for name, tensor in first.items():
                torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-5)
        else:
            base = load_file(outs[0].parent / "base" / file)
            changed = sum(float((first[name].float() - base[name].float()).square().sum()) for name in first)
            apart = sum(float((first[name].float() - other[name].float()).square().sum()) for name in first)
            assert apart < 0.05**2 * changed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sft(tmp_path: Path, dtype: str) -> None:
    wanted = made(tmp_path, "sft", dtype=dtype)
    same(results(tmp_path, "sft", wanted, LAYOUTS), "model.safetensors", exact=dtype == "float32")


@pytest.mark.parametrize("trainer", ["dpo", "grpo"])
def test_the_others(tmp_path: Path, trainer: str) -> None:
    same(results(tmp_path, trainer, made(tmp_path, trainer), FEW), "model.safetensors")


@pytest.mark.parametrize("trainer", ["sft", "dpo", "grpo"])
def test_lora(tmp_path: Path, trainer: str) -> None:
    wanted = made(tmp_path, trainer, lora=Lora(r=4, alpha=8, targets=("q_proj", "v_proj")))
    same(results(tmp_path, trainer, wanted, FEW), "adapter_model.safetensors")


def test_remix(tmp_path: Path) -> None:
    outs = results(tmp_path, "remix", made(tmp_path, "remix"), FEW)
    mixtures = [json.loads((out / "mixture.json").read_text()) for out in outs]
    for mixture in mixtures[1:]:
        for mine, first in zip(mixture["trajectory"], mixtures[0]["trajectory"], strict=True):
            assert mine == pytest.approx(first, rel=1e-4)
