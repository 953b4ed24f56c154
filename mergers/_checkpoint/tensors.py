"""The named tensors of one checkpoint, read through memory maps of its files.

Importing this module imports no torch; reading a tensor does.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .safetensors import Entry

if TYPE_CHECKING:
    from torch import Tensor

_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_BLOCK = 1 << 26  # bytes compared at a time


class Checkpoint:
    """Named tensors of one directory. Maps are opened on first read, per process; it pickles as its path.

    Attributes:
        path: the directory.
        names: of all tensors, in natural order (layer 2 before layer 10), whatever the shards.
        head: the stored output head, None if it is not stored (tied embeddings).
        embedding: the input embedding, None if no tensor is named like one.
    """

    def __init__(self, path: Path, entries: Mapping[str, Entry]) -> None:
        self.path = path
        self.names = tuple(sorted(entries, key=_natural))
        self.head = next((name for name in self.names if name.endswith(_HEADS)), None)
        self.embedding = next((name for name in self.names if name.endswith(_EMBEDDINGS)), None)
        self._entries = dict(entries)
        self._maps: dict[Path, mmap.mmap] = {}

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        from .checkpoint import open_checkpoint

        return open_checkpoint, (self.path,)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def layers(self) -> int:
        """Number of repeated blocks: `model.layers.3.mlp.up_proj.weight` is of block `model.layers.3`."""
        blocks = (re.match(r"(.*?\.\d+)\.", name) for name in self.names)
        return len({match[1] for match in blocks if match})

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of tensor `name`."""
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        """Type of tensor `name`, as torch calls it: `bfloat16`, `float32`, ..."""
        return self._entries[name].dtype

    def size(self, name: str) -> int:
        """Bytes of tensor `name`."""
        return self._entries[name].stop - self._entries[name].start

    def is_float(self, name: str) -> bool:
        """Whether tensor `name` holds floating-point numbers (others are copied, not merged)."""
        return "float" in self._entries[name].dtype

    def read(self, name: str) -> Tensor:
        """Tensor `name` in its stored type, on the CPU, contiguous: a view of a private map of the file."""
        import torch

        entry = self._entries[name]
        dtype: torch.dtype = getattr(torch, entry.dtype)
        if entry.start == entry.stop:
            return torch.empty(entry.shape, dtype=dtype)
        raw = torch.frombuffer(
            self._map(entry.file), dtype=torch.uint8, count=entry.stop - entry.start, offset=entry.start
        )
        if entry.start % dtype.itemsize:  # legal in the format, but no view of this type may start there
            raw = raw.clone()
        return raw.view(dtype).reshape(entry.shape)

    def same_bytes(self, first: str, second: str) -> bool:
        """Whether two tensors hold the same bytes in the same type and shape; read only up to the first difference."""
        one, two = self._entries[first], self._entries[second]
        if (one.dtype, one.shape) != (two.dtype, two.shape):
            return False
        if one.start == one.stop:
            return True
        with memoryview(self._map(one.file)) as here, memoryview(self._map(two.file)) as there:
            return all(
                here[one.start + at : min(one.start + at + _BLOCK, one.stop)]
                == there[two.start + at : min(two.start + at + _BLOCK, two.stop)]
                for at in range(0, one.stop - one.start, _BLOCK)
            )

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and bytes of all tensors; the same for every sharding."""
        digest = hashlib.sha256()
        for name in self.names:
            entry = self._entries[name]
            digest.update(f"{name}\0{entry.dtype}\0{entry.shape}\0".encode())
            if entry.stop > entry.start:
                with memoryview(self._map(entry.file)) as view:
                    digest.update(view[entry.start : entry.stop])
        return digest.hexdigest()

    def stamp(self) -> str:
        """SHA-256 over the headers, sizes and times of change of the files: cheap, other after any rewrite."""
        digest = hashlib.sha256(str(self.path.resolve()).encode())
        for name in self.names:
            digest.update(repr((name, self._entries[name])).encode())
        for file in sorted({entry.file for entry in self._entries.values()}):
            status = file.stat()
            digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def _map(self, file: Path) -> mmap.mmap:
        if file not in self._maps:
            with file.open("rb") as stream:
                self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._maps[file]


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
