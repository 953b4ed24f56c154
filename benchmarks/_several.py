"""Several candidates in one pass against one after the other: LoRA experts as scales, small models stacked."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from evaluators._several import Adapters, Candidates, Stacked
from evaluators._transformers import TransformersEngine, transformers_engine

COUNTS = (1, 2, 4, 8)
RANK = 8
Timed = Callable[[Callable[[], Any]], tuple[Any, float, float]]


def adapter(folder: Path, base: Path, seed: int) -> Path:
    """A LoRA adapter of rank 8 on all matrices of the layers, as PEFT saves it."""
    folder.mkdir(parents=True)
    draws = torch.Generator().manual_seed(seed)
    tensors, modules = {}, set()
    for name, tensor in load_file(base / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            module = name.removesuffix(".weight")
            modules.add(module.rsplit(".", 1)[1])
            out, into = tensor.shape
            scale = 0.3 * float(tensor.float().std())
            tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(RANK, into, generator=draws)
            tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, RANK, generator=draws) * scale / RANK
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": sorted(modules), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    return folder


def several(
    base: Path, folder: Path, items: Sequence[Any], timed: Timed, *, batch_tokens: int | None, rounds: int
) -> dict[str, Any]:
    """Seconds of K candidates together and in sequence (each written by the merge library), and whether they agree."""
    from mergers._adapter.adapter import Adapter
    from mergers._adapter.factors import LowRankMerge
    from mergers._adapter.open import open_adapter
    from mergers._checkpoint.checkpoint import open_checkpoint

    engine = transformers_engine(
        str(base), dtype="float32", device="cpu", batch_tokens=batch_tokens, threads=torch.get_num_threads()
    )
    experts: list[Adapter] = [open_adapter(adapter(folder / str(seed), base, seed)) for seed in (1, 2)]
    low = LowRankMerge(open_checkpoint(base), experts)
    live, prompts = engine.weights(), [item.prompt for item in items]
    answers = [item.answer for item in items]
    factors = low.factors()
    assert factors is not None
    tasks: dict[str, Callable[[TransformersEngine, int], Any]] = {
        "generate": lambda one, k: one.generate(prompts * k, max_new_tokens=16),
        "matches": lambda one, k: one.matches(prompts * k, answers * k),
    }
    found: dict[str, Any] = {"items": len(items), "rank": RANK, "experts": 2}
    for count in COUNTS:
        weights = torch.linspace(0, 1, count + 1)[1:, None] * torch.tensor([[1.0, 0.7]])
        rows = [tuple(row) for row in weights.tolist()]
        scales = {name: weights[:, owners] for name, (_, _, owners) in factors.items()}
        pairs = {name: (a, b) for name, (a, b, _) in factors.items()}
        copies = []
        for row in rows:
            low.apply(live, row)
            copies.append({name: tensor.clone() for name, tensor in live.items()})
        stacked = {name: torch.stack([one[name] for one in copies]) for name in live}
        ways: dict[str, Candidates] = {"adapters": Adapters(pairs, scales), "stacked": Stacked(stacked)}
        for task, ask in tasks.items():
            found[f"{task}-{count}"] = _compare(engine, low, live, rows, ways, ask, timed, rounds)
    return found


def _compare(
    engine: TransformersEngine,
    low: Any,
    live: Any,
    rows: Sequence[Any],
    ways: dict[str, Candidates],
    ask: Callable[[TransformersEngine, int], Any],
    timed: Timed,
    rounds: int,
) -> dict[str, Any]:
    def sequence() -> list[Any]:
        answers: list[Any] = []
        for row in rows:
            low.apply(live, row)
            answers += ask(engine, 1)
        return answers

    def together(candidates: Candidates) -> Any:
        with engine.several(candidates):
            return ask(engine, len(rows))

    calls: dict[str, Callable[[], Any]] = {"sequence": sequence}
    for name, candidates in ways.items():
        calls[name] = partial(together, candidates)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    answered: dict[str, Any] = {}
    for turn in range(rounds):
        order = list(calls)
        for name in order if turn % 2 else order[::-1]:
            low.apply(live, [0.0, 0.0])  # adapters add to the base
            answered[name], wall, busy = timed(calls[name])
            seconds[name].append((wall, busy))
    walls, busies = (
        {name: statistics.median(each[way] for each in every) for name, every in seconds.items()} for way in (0, 1)
    )
    return {
        "sequence_s": round(walls["sequence"], 4),
        **{f"{name}_ratio_wall": round(walls["sequence"] / walls[name], 2) for name in ways},
        **{f"{name}_ratio_processor": round(busies["sequence"] / busies[name], 2) for name in ways},
        "agree": round(
            min(
                sum(a == b for a, b in zip(answered["sequence"], answered[name], strict=True))
                / len(answered["sequence"])
                for name in ways
            ),
            4,
        ),
    }
