"""The safetensors format: headers read and checked without torch, files written as a stream.

Our own reader because a header must be checked before anything is mapped (a mapping past the end of a cut
file kills the process with SIGBUS) and read without importing torch. Our own writer because the library's
wants a whole shard in memory at once. The format: 8 bytes little-endian header length, JSON header, tensors
back to back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ._errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

TYPES: Mapping[str, tuple[str, int]] = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
"""Format's name of a type -> torch's name, bytes per element."""

_CODES = {name: (code, size) for code, (name, size) in TYPES.items()}
_LONGEST_HEADER = 100_000_000  # the library's own limit


class Entry(NamedTuple):
    """Where one tensor lies: torch's type name, shape, and bytes [start, stop) of `file`."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int


class Slot(NamedTuple):
    """One tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * _CODES[self.dtype][1]


def read_header(file: Path) -> dict[str, Entry]:
    """The tensors of one file, by name, in file order.

    Raises:
        InputError: not a safetensors file, cut short, inconsistent, or a type that cannot be merged.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(8)
        if first == b"version ":
            raise InputError(f"{file} is a git-lfs pointer, not weights; run `git lfs pull`")
        length = int.from_bytes(first, "little")
        if len(first) < 8 or not 2 <= length <= _LONGEST_HEADER:
            raise InputError(f"{file} is not a safetensors file ({size} bytes); pickles are never loaded, convert it")
        if 8 + length > size:
            raise _truncated(file, 8 + length, size)
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        entries = {name: _entry(file, name, fields, 8 + length) for name, fields in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} has an unreadable safetensors header ({error}); copy the file again") from error
    end = max((entry.stop for entry in entries.values()), default=8 + length)
    if end > size:
        raise _truncated(file, end, size)
    return entries


def _entry(file: Path, name: str, fields: Mapping[str, object], offset: int) -> Entry:
    code, shape, place = fields["dtype"], fields["shape"], fields["data_offsets"]
    if code not in TYPES:
        raise InputError(f"{file}: tensor {name} has type {code}, which cannot be merged; convert it to bfloat16")
    assert isinstance(code, str)
    if not isinstance(shape, list) or not isinstance(place, list) or any(type(n) is not int for n in (*shape, *place)):
        raise ValueError(f"shape or offsets of {name}")
    dtype, width = TYPES[code]
    start, stop = place
    if min(start, *shape, 0) < 0 or stop - start != math.prod(shape) * width:
        raise ValueError(f"offsets {place} of {name} do not fit shape {shape}")
    return Entry(dtype, tuple(shape), file, offset + start, offset + stop)


def _truncated(file: Path, promised: int, size: int) -> InputError:
    return InputError(f"{file} is cut short: its header promises {promised} bytes, it has {size}; copy it again")


def write_file(stream: BinaryIO, slots: Sequence[Slot], tensors: Iterable[Tensor]) -> None:
    """Write one file: the header of `slots`, then `tensors` in that order, one at a time."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for slot in slots:
        offsets = [place, place + slot.size]
        header[slot.name] = {
            "dtype": _CODES[slot.dtype][0],
            "shape": list(slot.shape),
            "data_offsets": offsets,
        }
        place += slot.size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # tensors start on 8 bytes, so that readers may map them
    stream.write(len(raw).to_bytes(8, "little") + raw)
    for slot, tensor in zip(slots, tensors, strict=True):
        stream.write(_bytes(slot, tensor))


def _bytes(slot: Slot, tensor: Tensor) -> memoryview:
    import torch

    assert tuple(tensor.shape) == slot.shape, (slot, tensor.shape)
    assert str(tensor.dtype) == f"torch.{slot.dtype}", (slot, tensor.dtype)
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
