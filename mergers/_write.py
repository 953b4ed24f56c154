"""Writing a checkpoint directory: complete or absent, one tensor in memory at a time."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._checkpoint import INDEX, SINGLE
from ._errors import InputError
from ._safetensors import Slot, write_file

if TYPE_CHECKING:
    from torch import Tensor

CARRIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
    "*.tiktoken",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)
"""What a merged model takes over from the base besides config.json: never weights, pickles or code."""


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` to fill; becomes `out` when the block ends, and vanishes if it raises.

    Files and directories are flushed to disk before the rename. A process killed in between leaves a
    directory `.NAME.partial-...`, never a half-filled `out`.

    Raises:
        InputError: `out` exists and is not an empty directory, or cannot be made.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"output {out} exists already; choose another directory or remove it")
    partial = out.absolute().parent / f".{out.absolute().name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write to {out.absolute().parent}: {error}; choose another directory") from error
    try:
        yield partial
        for folder, _, files in os.walk(partial):
            for file in files:
                _flush(Path(folder) / file)
            _flush(Path(folder))
        partial.rename(out)  # POSIX: replaces an empty directory
        _flush(out.absolute().parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_weights(folder: Path, slots: Sequence[Slot], read: Callable[[str], Tensor], *, shard_bytes: int) -> None:
    """Write `model.safetensors`, or shards of at most `shard_bytes` with their index, into `folder`.

    Args:
        folder: exists.
        slots: what to write, in order.
        read: gives the tensor of a name, in its slot's type and shape; asked for one at a time, in file
            order.
        shard_bytes: a tensor larger than this gets a shard of its own.

    Raises:
        InputError: the disk has too little room.
    """
    total = sum(slot.size for slot in slots)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise InputError(
            f"the output needs {total / 1e9:.2f} GB, the disk of {folder.parent} has {free / 1e9:.2f} GB free"
        )
    shards = _shards(slots, shard_bytes)
    placed: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        ordered = sorted(
            shard, key=lambda slot: -(slot.size // max(1, _count(slot)))
        )  # wide types first keeps all aligned
        with (folder / name).open("wb") as stream:
            write_file(stream, ordered, (read(slot.name) for slot in ordered))
        placed |= dict.fromkeys((slot.name for slot in shard), name)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": placed}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _count(slot: Slot) -> int:
    return int(Slot(slot.name, "bool", slot.shape).size)


def _shards(slots: Sequence[Slot], shard_bytes: int) -> list[list[Slot]]:
    shards: list[list[Slot]] = [[]]
    size = 0
    for slot in slots:
        if shards[-1] and size + slot.size > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(slot)
        size += slot.size
    return shards


def carry_files(source: Path, folder: Path, dtype: str) -> None:
    """Copy what a model needs besides its weights; `config.json` gets `dtype` as their type."""
    for pattern in CARRIED:
        for file in sorted(source.glob(pattern)):
            target = folder / file.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    config = source / "config.json"
    if config.is_file():
        try:
            fields = json.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{config} is not JSON ({error}); copy it again") from error
        text = json.dumps(_with_dtype(fields, dtype, top=True), indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def _with_dtype(fields: Mapping[str, Any], dtype: str, *, top: bool) -> dict[str, Any]:
    """`fields` with the type of weights replaced, also under its older name `torch_dtype`."""
    changed = {
        key: _with_dtype(value, dtype, top=False) if isinstance(value, dict) else value for key, value in fields.items()
    }
    for key in ("dtype", "torch_dtype"):
        if key in fields or (top and key == "dtype"):
            changed[key] = dtype
    return changed
