"""The safetensors format: headers read and checked, and laid out, without torch.

Our own reader because a header must be checked before anything is mapped (a mapping past the end of a cut
file kills the process with SIGBUS) and read without importing torch. Our own layout because the library's
writer wants a whole shard in memory at once. The format: 8 bytes little-endian header length, JSON header,
tensors back to back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .._errors import InputError

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
    def width(self) -> int:
        """Bytes of one element."""
        return _CODES[self.dtype][1]

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.width


def read_header(file: Path) -> dict[str, Entry]:
    """The tensors of one file, by name, in file order.

    Raises:
        InputError: not a safetensors file, cut short, inconsistent, or a type that cannot be merged.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = header_length(file, stream.read(8), size)
        return parse_header(file, stream.read(length), size)


def header_length(file: Path, first: bytes, size: int) -> int:
    """Bytes of the JSON header of `file`, told from its `first` 8 bytes; `size` is that of the whole file.

    Raises:
        InputError: not a safetensors file, or one cut short within its header.
    """
    if first == b"version ":
        raise InputError(f"{file} is a git-lfs pointer, not weights; run `git lfs pull`")
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= _LONGEST_HEADER:
        raise InputError(f"{file} is not a safetensors file ({size} bytes); pickles are never loaded, convert it")
    if 8 + length > size:
        raise _truncated(file, 8 + length, size)
    return length


def parse_header(file: Path, raw: bytes, size: int) -> dict[str, Entry]:
    """The tensors that the JSON header `raw` of `file` lists, by name, in file order.

    Raises:
        InputError: unreadable or inconsistent header, a file of `size` bytes shorter than it promises, or a
            type that cannot be merged.
    """
    start = 8 + len(raw)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        entries = {name: _entry(file, name, fields, start) for name, fields in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} has an unreadable safetensors header ({error}); copy the file again") from error
    end = max((entry.stop for entry in entries.values()), default=start)
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


def layout(slots: Sequence[Slot]) -> tuple[bytes, tuple[int, ...]]:
    """How a file of `slots`, in that order, begins and where its tensors lie.

    Returns:
        The file's bytes up to its first tensor, and the place of each tensor's first byte in the file followed
        by the length of the file. Tensors start on a multiple of their element's width if wider types come
        before narrower ones.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    places = [0]
    for slot in slots:
        places.append(places[-1] + slot.size)
        header[slot.name] = {
            "dtype": _CODES[slot.dtype][0],
            "shape": list(slot.shape),
            "data_offsets": places[-2:],
        }
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # tensors start on 8 bytes, so that they can be mapped
    start = 8 + len(raw)
    return len(raw).to_bytes(8, "little") + raw, tuple(start + place for place in places)
