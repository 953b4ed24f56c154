"""The engines by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import InputError

if TYPE_CHECKING:
    from ._engine import Engine

ENGINES = ("transformers", "vllm")


def load_engine(name: str, path: str, *, dtype: str) -> Engine:
    """Load a checkpoint for scoring with the engine `name`.

    Args:
        name: one of `ENGINES`.
        path: directory or hub id.
        dtype: type of the live weights and of all arithmetic.

    Raises:
        InputError: no such engine, or what the engine refuses.
    """
    if name not in ENGINES:
        raise InputError(f"no engine {name!r}; there are {', '.join(ENGINES)}")
    if name == "vllm":
        from ._vllm import vllm_engine

        return vllm_engine(path, dtype=dtype)
    from ._transformers import transformers_engine

    return transformers_engine(path, dtype=dtype)
