"""Llama-shaped checkpoints of any size, as fine-tuning leaves them: a base, and experts a little off it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

VOCABULARY = 32_000
STEP = 0.02  # size of an expert's difference, relative to the base's entries


def shapes(parameters: float) -> tuple[dict[str, tuple[int, ...]], dict[str, object]]:
    """Tensors of a Llama of about `parameters` parameters, and its config."""
    hidden = max(128, round(math.sqrt(parameters / 330) / 64) * 64)
    vocabulary = VOCABULARY if parameters >= 1e8 else VOCABULARY // 8
    inner = round(hidden * 2.75 / 64) * 64
    layer = 4 * hidden * hidden + 3 * hidden * inner + 2 * hidden
    layers = max(2, round((parameters - 2 * vocabulary * hidden) / layer))
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for i in range(layers):
        prefix = f"model.layers.{i}."
        for name in ("q", "k", "v", "o"):
            found[f"{prefix}self_attn.{name}_proj.weight"] = (hidden, hidden)
        found[f"{prefix}mlp.gate_proj.weight"] = (inner, hidden)
        found[f"{prefix}mlp.up_proj.weight"] = (inner, hidden)
        found[f"{prefix}mlp.down_proj.weight"] = (hidden, inner)
        found[f"{prefix}input_layernorm.weight"] = (hidden,)
        found[f"{prefix}post_attention_layernorm.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    found["lm_head.weight"] = (vocabulary, hidden)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    return found, config


def make(folder: Path, parameters: float, experts: int, *, seed: int = 0) -> tuple[Path, tuple[Path, ...], int]:
    """Write `base` and `expert-I` in bfloat16 under `folder`, unless they are there.

    Returns:
        base, experts, number of parameters of each.
    """
    wanted, config = shapes(parameters)
    paths = [folder / "base", *(folder / f"expert-{i}" for i in range(experts))]
    for index, path in enumerate(paths):
        if (path / "config.json").is_file():
            continue
        path.mkdir(parents=True, exist_ok=True)
        _write(path / "model.safetensors", wanted, seed, index)
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return paths[0], tuple(paths[1:]), sum(math.prod(shape) for shape in wanted.values())


def _write(file: Path, wanted: dict[str, tuple[int, ...]], seed: int, index: int) -> None:
    from safetensors.torch import save_file

    save_file(dict(_tensors(wanted, seed, index)), file, metadata={"format": "pt"})


def _tensors(wanted: dict[str, tuple[int, ...]], seed: int, index: int) -> Iterator[tuple[str, Tensor]]:
    for number, (name, shape) in enumerate(wanted.items()):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        base = torch.randn(shape, generator=generator).mul_(1.0 if len(shape) == 1 else 1 / math.sqrt(shape[-1]))
        if index:
            generator.manual_seed((seed + index) * 7_368_787 + number)
            base.addcmul_(torch.randn(shape, generator=generator), base.abs(), value=STEP)
        yield name, base.bfloat16()
