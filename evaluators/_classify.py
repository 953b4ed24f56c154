"""Classification models, of sequences or generative guards, loaded once for a process."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ._errors import InputError, some

CONFIG = "config.json"


class Labeller(Protocol):
    """A classification model."""

    def has(self, label: str, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        """Whether each response, to its prompt, gets the label."""
        ...

    def prove(self, label: str, positive: str, negative: str) -> None:
        """Make sure, once, that the examples are labelled as they must be.

        Raises:
            InputError: they are not.
        """
        ...


def check_model(model: str, label: str, inputs: str) -> None:
    """Look at the config alone.

    Raises:
        InputError: not a classifier that is on this machine, an unknown label, or a guard that is to read less.
    """
    config = _config(model)
    if _is_guard(config):
        if inputs != "pair":
            raise InputError(
                f"classifier: {model} is a generative guard, which reads prompt and response; say inputs: pair"
            )
        return
    if not any("SequenceClassification" in name for name in config.get("architectures") or ()):
        raise InputError(f"classifier: {model} is neither a sequence classifier nor a causal language model")
    labels = [str(name) for name in (config.get("id2label") or {}).values()]
    if label not in labels:
        raise InputError(f"classifier: {model} has no label {label!r}; its labels: {some(labels, 20) or 'none'}")


@lru_cache(maxsize=4)
def content(model: str) -> str:
    """A digest of the classifier's weights and config: of the bytes of its files."""
    found = hashlib.sha256()
    folder = _file(model, CONFIG).parent
    for file in sorted((*folder.glob("*.safetensors"), folder / CONFIG)):
        with file.open("rb") as handle:
            found.update(file.name.encode() + hashlib.file_digest(handle, "sha256").digest())
    return found.hexdigest()[:16]


@lru_cache(maxsize=2)
def load(model: str, dtype: str, device: str, inputs: str, verdict_tokens: int) -> Labeller:
    """The classifier, live; it stays in memory as long as the process."""
    if _is_guard(_config(model)):
        return Guard(model, dtype, device, verdict_tokens)
    return Sequences(model, dtype, device, inputs)


class _Proved(ABC):
    """Examples are tried once."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._proved: set[tuple[str, str, str]] = set()

    @abstractmethod
    def has(self, label: str, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        """See `Labeller.has`."""

    def prove(self, label: str, positive: str, negative: str) -> None:
        """See `Labeller.prove`."""
        if (label, positive, negative) in self._proved:
            return
        found = self.has(label, ["", ""], [positive, negative])
        if found != [True, False]:
            wrong = f"positive example {positive!r} does not get" if not found[0] else f"negative {negative!r} gets"
            raise InputError(f"classifier: {self.model}: the {wrong} the label {label!r}; is the label the wrong one?")
        self._proved.add((label, positive, negative))


class Sequences(_Proved):
    """A sequence classifier."""

    def __init__(self, model: str, dtype: str, device: str, inputs: str) -> None:
        import torch
        import transformers

        from ._linear import by_onednn
        from ._load import quiet

        super().__init__(model)
        where = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        with quiet():
            found, info = transformers.AutoModelForSequenceClassification.from_pretrained(
                model,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        if info["missing_keys"]:
            raise InputError(f"classifier: {model}: tensors are missing: {some(sorted(info['missing_keys']))}")
        self._model = found.eval().requires_grad_(False).to(where)
        by_onednn(self._model)
        # Encoders read their first token and count positions from the left, whatever side their tokenizer pads.
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(
            model, trust_remote_code=False, padding_side="right"
        )
        limit = getattr(found.config.get_text_config(), "max_position_embeddings", None)
        self._limit = min(limit or 10**6, self._tokenizer.model_max_length)
        self._pair = inputs == "pair"

    def has(self, label: str, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        """See `Labeller.has`."""
        import torch

        wanted = {name: number for number, name in self._model.config.id2label.items()}[label]
        found = [False] * len(responses)
        # Texts of one length together: little padding, and what a text gets does not hang on its neighbours.
        order = sorted(range(len(responses)), key=lambda row: len(responses[row]) + self._pair * len(prompts[row]))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            first = [prompts[row] if self._pair else responses[row] for row in rows]
            second = [responses[row] for row in rows] if self._pair else None
            inputs = self._tokenizer(
                first, second, truncation=True, max_length=self._limit, padding=True, return_tensors="pt"
            )
            if not inputs["input_ids"].shape[1]:
                continue  # nothing at all to read: no label
            with torch.inference_mode():
                logits = self._model(**inputs.to(self._model.device)).logits
            if not bool(torch.isfinite(logits).all()):
                raise FloatingPointError(f"classifier: {self.model}: its logits are not finite")
            for row, best in zip(rows, logits.argmax(dim=-1).tolist(), strict=True):
                found[row] = best == int(wanted)
        return found


class Guard(_Proved):
    """A generative guard: its chat template asks, what it writes begins with the label or not."""

    def __init__(self, model: str, dtype: str, device: str, verdict_tokens: int) -> None:
        from ._transformers import transformers_engine

        super().__init__(model)
        self._engine = transformers_engine(model, dtype=dtype, device=device)
        self._limit = verdict_tokens

    def has(self, label: str, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        """See `Labeller.has`."""
        talks = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        texts = [self._engine.render(talk) for talk in talks]
        verdicts = self._engine.generate(texts, max_new_tokens=self._limit, chat=False)
        return [verdict.strip().startswith(label) for verdict in verdicts]


def _is_guard(config: dict[str, Any]) -> bool:
    return any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in config.get("architectures") or ())


def _config(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_file(model, CONFIG).read_text(encoding="utf-8"))
    return found


def _file(model: str, name: str) -> Path:
    """A file of a model that is on this machine; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    folder = Path(model)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise InputError(f"classifier: {model} has no {name}, so it is not a model directory")
        return folder / name
    try:
        cached = try_to_load_from_cache(model, name)
    except ValueError:
        cached = None
    if not isinstance(cached, str):
        raise InputError(
            f"classifier: {model} is neither a directory nor in the hub cache; fetch it: hf download {model}"
        )
    return Path(cached)
