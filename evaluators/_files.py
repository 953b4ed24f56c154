"""A checkpoint's files, read without its model: where its tensors lie, which tokens end a response."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ._errors import InputError


def tensor_files(path: str) -> tuple[str, ...]:
    """The safetensors files of a checkpoint directory, sorted.

    Raises:
        InputError: no directory, or none in it.
    """
    found = sorted(str(file) for file in Path(path).glob("*.safetensors"))
    if not found:
        raise InputError(f"{path}: has no .safetensors file; pickle checkpoints are never loaded, convert it first")
    return tuple(found)


def ends_of(path: str, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end a response: generation config, else config, else tokenizer.

    Raises:
        InputError: there is none.
    """
    for name in ("generation_config.json", "config.json"):
        file = Path(path) / name
        if file.is_file():
            config = json.loads(file.read_text(encoding="utf-8"))
            found = config.get("eos_token_id", (config.get("text_config") or {}).get("eos_token_id"))
            if found is not None:
                return tuple(map(int, found)) if isinstance(found, list) else (int(found),)
    if tokenizer.eos_token_id is None:
        raise InputError(f"{path}: no end-of-sequence token; set eos_token_id in generation_config.json")
    return (int(tokenizer.eos_token_id),)
