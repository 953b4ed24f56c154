"""References to models: "path", or "path+adapter" for a model with a LoRA adapter on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._errors import InputError


def reference(written: Any) -> str:
    """A reference as text, from text or from the mapping that mergekit makes of it.

    Raises:
        InputError: neither of the two, or two adapters.
    """
    if isinstance(written, str) and written.strip():
        if written.count("+") > 1:
            raise InputError(f"a model takes one adapter, got '{written}'; write path+adapter")
        return written
    keys = {"model", "lora", "override_architecture"}  # tensors go by their names here: no architecture is looked at
    if isinstance(written, Mapping) and "model" in written and not set(written) - keys:
        lora = written.get("lora")
        return _path(written["model"]) + ("" if lora is None else f"+{_path(lora)}")
    raise InputError(f"a model is a path, or path+adapter, got {written!r}; write it so")


def path_of(model: str) -> str:
    """The model of a reference without its adapter."""
    return model.partition("+")[0]


def adapter_of(model: str) -> str | None:
    """The adapter of a reference."""
    return model.partition("+")[2] or None


def _path(written: Any) -> str:
    if isinstance(written, str) and written.strip() and "+" not in written:
        return written
    if isinstance(written, Mapping) and isinstance(written.get("path"), str):
        revision = written.get("revision")
        if not set(written) - {"path", "revision"}:
            return str(written["path"]) + ("" if revision is None else f"@{revision}")
    raise InputError(f"a model's path is text, got {written!r}; write it so")
