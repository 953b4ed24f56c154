"""A checkpoint as a live model: safetensors only, nothing missing, its tensors under the names of the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import cached_file
from transformers.utils import logging as hub_logging

from ._errors import InputError, some

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Loaded:
    """A live model with what is needed to talk to it.

    Attributes:
        path: where it came from.
        model: in eval mode, no gradients.
        tokenizer: of the same checkpoint.
        device: where the model is.
        ends: ids that end a response.
        fill: id put where attention never looks.
        context: most tokens of a sequence; None if the config does not say.
    """

    path: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    ends: tuple[int, ...]
    fill: int
    context: int | None

    def weights(self) -> dict[str, Tensor]:
        """See `Engine.weights`."""
        stored = _stored_names(self.path)
        live: dict[str, Tensor] = {}
        seen: dict[tuple[int, tuple[int, ...]], str] = {}
        for name, tensor in self.model.state_dict().items():
            key = (tensor.data_ptr(), tuple(tensor.shape))
            if key in seen:
                # Tied: keep the name under which the checkpoint holds it.
                if name in stored and seen[key] not in stored:
                    live = {name if old == seen[key] else old: value for old, value in live.items()}
                    seen[key] = name
                continue
            seen[key] = name
            live[name] = tensor
        foreign = [name for name in live if name not in stored]
        if foreign:
            raise InputError(
                f"{self.path}: {len(foreign)} live tensors have no such name in the checkpoint ({some(foreign)}); "
                "merging into this model type in place is not supported, save it with transformers first"
            )
        return live


def load_model(path: str, *, dtype: str, device: str) -> Loaded:
    """Load `path`; arguments and errors as `transformers_engine`."""
    if dtype not in DTYPES:
        raise InputError(f"dtype: unknown {dtype!r}; choose one of {', '.join(DTYPES)}")
    where = _device(device)
    folder = Path(path)
    if folder.exists() and not (folder / "config.json").is_file():
        kind = "is a LoRA adapter: merge it into its base first" if (folder / "adapter_config.json").is_file() else ""
        raise InputError(f"{path}: {kind or 'has no config.json, so it is not a model directory'}")
    if folder.exists() and not any(folder.glob("*.safetensors")):
        raise InputError(f"{path}: has no .safetensors file; pickle checkpoints are never loaded, convert it first")
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                path,
                dtype=DTYPES[dtype],
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported in `info`, by name
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        # What transformers raises for a missing repository, a broken file, an unknown architecture.
        raise InputError(f"{path}: cannot be loaded: {_one_line(error)}") from error
    # transformers fills these with random numbers and goes on.
    absent = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    if absent:
        raise InputError(f"{path}: {len(absent)} tensors are missing or of another shape: {some(absent)}")
    model = model.eval().requires_grad_(False).to(where)
    ends = _ends(path, model, tokenizer)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    fill = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return Loaded(path, model, tokenizer, where, ends, fill, context)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no report of missing tensors, which is an error of ours in one line."""
    bars, level = hub_logging.is_progress_bar_enabled(), hub_logging.get_verbosity()
    hub_logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)
        if bars:
            hub_logging.enable_progress_bar()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise InputError(f"device {name!r}: {_one_line(error)}; auto, cpu and cuda:N are usual") from None
    return device


def _ends(path: str, model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end a response, as in `model.generate`: generation config, else config, else tokenizer."""
    for holder in (model.generation_config, model.config.get_text_config(), tokenizer):
        found = getattr(holder, "eos_token_id", None)
        if found is not None:
            return tuple(found) if isinstance(found, (list, tuple)) else (int(found),)
    raise InputError(f"{path}: no end-of-sequence token; set eos_token_id in generation_config.json")


def _stored_names(path: str) -> frozenset[str]:
    """Names of the tensors in the checkpoint's files; headers only."""
    index = cached_file(path, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    if index is not None:
        return frozenset(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"])
    single = cached_file(path, "model.safetensors", _raise_exceptions_for_missing_entries=False)
    if single is None:
        raise InputError(f"{path}: neither model.safetensors nor model.safetensors.index.json")
    with safe_open(single, framework="pt") as file:
        return frozenset(file.keys())


def _one_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
