"""Opening a PEFT adapter directory by its headers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from .._checkpoint.checkpoint import Checkpoint
from .._checkpoint.safetensors import read_header
from .._errors import InputError
from .adapter import Adapter, Change, Layout, Lazy, LowRank, Rows
from .config import CONFIG, Config, read_config

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B, EMBEDDING_A, EMBEDDING_B, MAGNITUDE, TOKENS, BASE_LAYER = (
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_embedding_A",
    ".lora_embedding_B",
    ".lora_magnitude_vector",
    ".token_adapter.trainable_tokens_delta",
    ".base_layer.",
)
"""How PEFT's keys go on after the module's name."""


def open_adapter(path: str | Path) -> Adapter:
    """Open the LoRA adapter in directory `path` as PEFT saves it; reads headers only.

    Understood: LoRA and rsLoRA on linear layers (`fan_in_fan_out` too) and embeddings, rank and alpha patterns, DoRA,
    `modules_to_save`, trained biases, trained tokens.

    Raises:
        InputError: no adapter there, pickled weights (never loaded), another kind of adapter, a setting or a tensor
            that cannot be merged exactly (named), ranks other than the configuration says.
    """
    folder = Path(path)
    config = read_config(folder)
    name = f"adapter {path}"
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").is_file():
            raise InputError(f"{name} has only pickled weights, which are never loaded (they run code); convert them")
        raise InputError(f"{name} holds no {WEIGHTS}; save it with save_pretrained")
    try:
        store = Checkpoint(folder, read_header(folder / WEIGHTS))
    except OSError as error:
        raise InputError(f"cannot read {name}: {error}; check the path and its permissions") from error
    for key in store.names:
        if not store.is_float(key) or 0 in store.shape(key):
            raise InputError(
                f"{name} stores {key} as {store.dtype(key)} {list(store.shape(key))}; save it unquantized, and "
                "gathered if it was trained with ZeRO-3 or FSDP"
            )
    changes = _changes(name, config, store)
    if not changes:
        raise InputError(f"{name} changes no tensor; save it again")
    return Adapter(name, changes, config.base_name, config.task_type, (open_adapter, (str(path),)))


def is_adapter(path: str | Path) -> bool:
    """Whether directory `path` holds an adapter's configuration."""
    return (Path(path) / CONFIG).is_file()


def _changes(name: str, config: Config, store: Checkpoint) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for key in store.names:
        if not key.startswith(PREFIX):
            raise _unknown(name, key)
        inner = key.removeprefix(PREFIX)
        if inner.endswith((A, EMBEDDING_A)):
            module = inner.removesuffix(A).removesuffix(EMBEDDING_A)
            tensor, change = f"{module}.weight", Change(low_rank=_low_rank(name, config, store, module, key))
        elif inner.endswith(TOKENS):
            module = inner.removesuffix(TOKENS)
            tensor, change = f"{module}.weight", Change(rows=_rows(name, config, store, module, key))
        elif inner.endswith((B, EMBEDDING_B, MAGNITUDE)):
            stem = inner.removesuffix(B).removesuffix(EMBEDDING_B).removesuffix(MAGNITUDE)
            if not any(f"{PREFIX}{stem}{end}" in store for end in (A, EMBEDDING_A)):
                raise _unknown(name, key)
            continue  # read with its A
        elif ".lora_" in inner or ".token_adapter." in inner or ".modules_to_save." in inner:
            raise _unknown(name, key)
        else:
            tensor, change = inner.replace(BASE_LAYER, "."), Change(replacement=_lazy(store, key))
        old = changes.get(tensor)
        if old is not None and (old.rows or change.rows or set(old.parts()) & set(change.parts())):
            raise InputError(f"{name} changes {tensor} twice (second key {key}); save it again")
        if old is not None:
            change = replace(
                old, **{part: getattr(change, part) for part in ("replacement", "low_rank") if getattr(change, part)}
            )
        changes[tensor] = change
    return changes


def _low_rank(name: str, config: Config, store: Checkpoint, module: str, first: str) -> LowRank:
    embedding = first.endswith(EMBEDDING_A)
    second = PREFIX + module + (EMBEDDING_B if embedding else B)
    magnitude = PREFIX + module + MAGNITUDE
    if second not in store:
        raise InputError(f"{name} has {first} without {second.removeprefix(PREFIX)}; save it again")
    if len(store.shape(first)) != 2 or len(store.shape(second)) != 2:
        raise InputError(f"{name} has {first} of shape {list(store.shape(first))}; only linear layers and embeddings")
    rank, scale = config.scaling(module)
    ranks = store.shape(first)[0], store.shape(second)[1]
    if ranks != (rank, rank):
        raise InputError(f"{name} has rank {ranks[0]} (A) and {ranks[1]} (B) at {module}, its {CONFIG} says {rank}")
    if config.dora != (magnitude in store):
        wrong = "lacks" if config.dora else "has"
        raise InputError(f"{name} {wrong} {magnitude}, though its {CONFIG} has use_dora {str(config.dora).lower()}")
    layout: Layout = "embedding" if embedding else "transposed" if config.transposed else "linear"
    length = _lazy(store, magnitude) if config.dora else None
    if length is not None and length.shape != (store.shape(second)[0],):
        raise InputError(f"{name} has {magnitude} of shape {list(length.shape)}, not [{store.shape(second)[0]}]")
    return LowRank(_lazy(store, first), _lazy(store, second), scale, layout, length)


def _rows(name: str, config: Config, store: Checkpoint, module: str, key: str) -> Rows:
    rows, shape = config.token_rows(module), store.shape(key)
    if rows is None or len(shape) != 2 or shape[0] != len(rows) or len(set(rows)) != len(rows) or min(rows) < 0:
        raise InputError(
            f"{name} has {key} of shape {list(shape)}, but trainable_token_indices in its {CONFIG} lists "
            f"{'no rows' if rows is None else f'{len(set(rows))} rows'} for it; save it again"
        )
    return Rows(rows, _lazy(store, key))


def _lazy(store: Checkpoint, key: str) -> Lazy:
    return Lazy(store.shape(key), store.dtype(key), partial(store.read, key))


def _unknown(name: str, key: str) -> InputError:
    return InputError(f"{name} has tensor {key}, which cannot be merged exactly; merge it into its base with PEFT")
