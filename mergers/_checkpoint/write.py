"""Writing the weights of a checkpoint: file by file, resumable by file, in memory that does not grow with them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .carry import CARRIED, carry_files
from .index import INDEX, SINGLE
from .mapped import UNFINISHED, free_bytes, no_room, release, write_file
from .output import new_directory
from .safetensors import Slot, layout

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CARRIED", "carry_files", "new_directory", "release", "write_weights"]


def write_weights(
    folder: Path, slots: Sequence[Slot], fill: Callable[[Slot, Tensor], None], *, shard_bytes: int, at_once: int = 1
) -> tuple[str, ...]:
    """Write `model.safetensors`, or shards and their index, into `folder`.

    Files that an earlier, killed process finished there (same tensors, whole: `new_directory` vouches that it is
    the same merge) are kept; `fill` is not called for their tensors.

    Args:
        folder: where; what `new_directory` gives.
        slots: the tensors, in the order in which they are spread over the files.
        fill: see `write_file`. Called once per tensor, file by file; within a file wide types come first.
        shard_bytes: largest file; a tensor larger than this gets a file of its own.
        at_once: see `write_file`.

    Returns:
        Lines that say what was kept.

    Raises:
        InputError: the disk has too little room, told before the first tensor is asked for where possible.
    """
    shards = _shards(slots, shard_bytes)
    names = [SINGLE] if len(shards) == 1 else [_name(i + 1, len(shards)) for i in range(len(shards))]
    for stray in sorted(folder.glob("*.safetensors*")):
        if stray.name.endswith(UNFINISHED) or stray.name not in names:
            stray.unlink()
    ordered = [sorted(shard, key=lambda slot: -slot.width) for shard in shards]
    missing = [i for i, name in enumerate(names) if not _finished(folder / name, ordered[i])]
    needed = sum(layout(ordered[i])[1][-1] for i in missing)
    free = free_bytes(folder)
    if needed > free:
        raise no_room(folder.parent, "the output", needed, free)
    for i in missing:
        write_file(folder / names[i], ordered[i], fill, at_once=at_once)
    if len(shards) > 1:
        placed = {slot.name: name for name, shard in zip(names, shards, strict=True) for slot in shard}
        index = {"metadata": {"total_size": sum(slot.size for slot in slots)}, "weight_map": placed}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    kept = len(names) - len(missing)
    return (f"kept {kept} of {len(names)} weight files that an earlier run had finished",) if kept else ()


def _finished(file: Path, slots: Sequence[Slot]) -> bool:
    """Whether `file` is whole and holds `slots`; files get their name only when they are whole on the disk."""
    head, places = layout(slots)
    try:
        with file.open("rb") as stream:
            return os.fstat(stream.fileno()).st_size == places[-1] and stream.read(len(head)) == head
    except FileNotFoundError:
        return False


def _name(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"


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
