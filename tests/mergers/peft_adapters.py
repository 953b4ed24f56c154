"""Real PEFT adapters on the tiny models of `conftest`, with random numbers everywhere (PEFT starts B at zero)."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergers._adapter.fold import fold
from mergers._adapter.open import open_adapter
from mergers._checkpoint.checkpoint import open_checkpoint

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
QKV = ("q_proj", "k_proj", "v_proj")


def save_adapter(base: Path, out: Path, seed: int, **settings: Any) -> Path:
    """Save an adapter of `base` to `out`; `settings` go to PEFT's LoraConfig."""
    from peft import LoraConfig, get_peft_model

    settings = {"target_modules": list(QKV), "r": 4, "lora_alpha": 6} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT thinks of tied embeddings is what some tests are about
        torch.manual_seed(seed)
        model = get_peft_model(load(base), LoraConfig(**settings))
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                with torch.no_grad():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(out)
    return out


def load(base: Path) -> Any:
    """The model in `base`, float32, on the CPU, without dropout."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def with_adapter(base: Path, adapter: Path) -> Any:
    """PEFT's own model of `base` and `adapter`."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(load(base), str(adapter), torch_device="cpu").eval()
    missing = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    assert not missing
    return model


def merged_by_peft(base: Path, adapter: Path) -> dict[str, Tensor]:
    """Weights of PEFT's `merge_and_unload`."""
    model = with_adapter(base, adapter).merge_and_unload()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def logits(model: Any) -> Tensor:
    """What a model says to a fixed text."""
    with torch.no_grad():
        found: Tensor = model(input_ids=torch.arange(2, 20).reshape(2, 9)).logits
    return found


def logits_of(base: Path, weights: dict[str, Tensor]) -> Tensor:
    """What `base` says with other weights; those that it ties may be left out."""
    model = load(base)
    model.load_state_dict(weights, strict=False)
    return logits(model)


def assert_same_logits(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to float32 rounding: W x + B (A x) and (W + B A) x add the same terms in another order."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=8 * 2**-23 * float(theirs.abs().max()))


def dense_sum(base: Path, adapters: Sequence[Path], weights: Sequence[float]) -> dict[str, Tensor]:
    """b + sum w_i (folded_i - b) in float64: the definition, by way of folding, which is checked against PEFT."""
    opened = open_checkpoint(base)
    folded = [fold(opened, open_adapter(adapter)) for adapter in adapters]
    total = {}
    for name in opened.names:
        start = opened.read(name).double()
        total[name] = start + sum(w * (one.read(name).double() - start) for w, one in zip(weights, folded, strict=True))
    return total


def tie(adapter: Path) -> None:
    """As training with tied weights leaves them; the random numbers of `save_adapter` went to each side apart."""
    file = adapter / "adapter_model.safetensors"
    head, embedding = "base_model.model.lm_head", "base_model.model.model.embed_tokens"
    stored = load_file(file)
    for ours, theirs in (("lora_A.weight", "lora_embedding_B"), ("lora_B.weight", "lora_embedding_A")):
        if f"{head}.{ours}" in stored:
            stored[f"{head}.{ours}"] = stored[f"{embedding}.{theirs}"].T.contiguous()
    if f"{head}.weight" in stored:
        stored[f"{head}.weight"] = stored[f"{embedding}.weight"].clone()
    save_file(stored, file, {"format": "pt"})


def store_head(base: Path, out: Path) -> Path:
    """A copy of a tied checkpoint that stores its head too, as some programs write it."""
    shutil.copytree(base, out)
    weights = load_file(out / "model.safetensors")
    save_file(weights | {HEAD: weights[EMBEDDING].clone()}, out / "model.safetensors", {"format": "pt"})
    return out
