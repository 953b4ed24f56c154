"""A checkpoint directory as a set of named tensors: opened by its headers, read through memory maps.

Importing this module imports no torch; reading a tensor does.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ._errors import InputError
from ._safetensors import Entry, read_header

if TYPE_CHECKING:
    from torch import Tensor

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


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
        return open_checkpoint, (self.path,)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of tensor `name`."""
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        """Type of tensor `name`, as torch calls it: `bfloat16`, `float32`, ..."""
        return self._entries[name].dtype

    def is_float(self, name: str) -> bool:
        """Whether tensor `name` holds floating-point numbers (others are copied, not merged)."""
        return "float" in self._entries[name].dtype

    def read(self, name: str) -> Tensor:
        """Tensor `name` in its stored type, on the CPU: a view of a private map of the file."""
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

    def _map(self, file: Path) -> mmap.mmap:
        if file not in self._maps:
            with file.open("rb") as stream:
                self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._maps[file]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open the safetensors checkpoint in directory `path`; reads headers only.

    Raises:
        InputError: no such directory, no safetensors in it (pickles are never loaded), a file cut short, an
            unreadable index, an index that names a missing shard or tensor.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"checkpoint {path} is not a directory; give a directory that holds {SINGLE}")
    try:
        if (folder / SINGLE).is_file():
            entries = read_header(folder / SINGLE)
        elif (folder / INDEX).is_file():
            entries = _sharded(folder)
        else:
            raise _unsuitable(folder)
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error}; check the path and its permissions") from error
    if not entries:
        raise InputError(f"checkpoint {path} holds no tensors; copy or save it again")
    return Checkpoint(folder, entries)


def _sharded(folder: Path) -> dict[str, Entry]:
    index = folder / INDEX
    try:
        shards = json.loads(index.read_bytes())["weight_map"]
        wanted = {str(name): str(file) for name, file in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not a readable index ({error!r}); copy it again") from error
    headers: dict[str, dict[str, Entry]] = {}
    for file in dict.fromkeys(wanted.values()):
        if not (folder / file).is_file():
            raise InputError(f"{index} names shard {file}, which is missing; copy the checkpoint again")
        headers[file] = read_header(folder / file)
    for name, file in wanted.items():
        if name not in headers[file]:
            raise InputError(f"{index} places tensor {name} in {file}, which lacks it; copy the checkpoint again")
    return {name: headers[file][name] for name, file in wanted.items()}


def _unsuitable(folder: Path) -> InputError:
    if (folder / "adapter_config.json").is_file():
        return InputError(f"{folder} holds a LoRA adapter; not available yet: merging adapters, so save a full model")
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        return InputError(f"{folder} holds only pickled weights, which are never loaded (they run code); convert them")
    return InputError(f"{folder} holds no {SINGLE}; save the model with save_pretrained")


def compare(base: Checkpoint, other: Checkpoint, name: str) -> None:
    """Refuse `other` if it cannot be merged with `base`.

    Types may differ, and a tied output head may be absent or stored.

    Args:
        base: what every expert started from.
        other: the expert.
        name: how the error calls it.

    Raises:
        InputError: naming the expert and the first thing that differs: number of layers, vocabulary, a
            missing or an extra tensor, a shape, floats against integers.
    """
    remedy = "an expert must be fine-tuned from this base"
    layers = _layers(base), _layers(other)
    if layers[0] != layers[1]:
        raise InputError(f"{name} has {layers[1]} layers, the base {layers[0]}; {remedy}")
    embedding = base.embedding
    if embedding is not None and embedding in other:
        rows = base.shape(embedding)[:1], other.shape(embedding)[:1]
        if rows[0] != rows[1]:
            raise InputError(f"{name} has a vocabulary of {rows[1][0]} rows, the base of {rows[0][0]}; {remedy}")
    head = base.head or other.head or ""
    tied = (head,) if base.embedding and base.embedding in other else ()  # what lacks a head uses its embedding
    for tensor in base.names:
        if tensor in other:
            _compare_tensor(base, other, name, tensor)
        elif tensor not in tied:
            raise InputError(f"{name} lacks tensor {tensor} of the base; {remedy}")
    for tensor in other.names:
        if tensor not in base and tensor not in tied:
            raise InputError(f"{name} has tensor {tensor}, which the base lacks; {remedy}")
    if head in tied and base.head is None and other.head is not None and not _is_tied(other):
        raise InputError(f"{name} has an output head of its own ({head}), the base ties it to the embedding; {remedy}")


def all_tied(checkpoints: tuple[Checkpoint, ...]) -> bool:
    """Whether every checkpoint's output head is its embedding: not stored, or stored with the same bytes."""
    return all(_is_tied(checkpoint) for checkpoint in checkpoints)


def _is_tied(checkpoint: Checkpoint) -> bool:
    import torch

    head, embedding = checkpoint.head, checkpoint.embedding
    if head is None or embedding is None:
        return head is None
    if checkpoint.shape(head) != checkpoint.shape(embedding) or checkpoint.dtype(head) != checkpoint.dtype(embedding):
        return False
    ours, theirs = checkpoint.read(head), checkpoint.read(embedding)
    starts = range(0, len(ours), 1024)  # by blocks of rows: untied heads differ in the first
    return all(torch.equal(ours[start : start + 1024], theirs[start : start + 1024]) for start in starts)


def _compare_tensor(base: Checkpoint, other: Checkpoint, name: str, tensor: str) -> None:
    ours, theirs = base.shape(tensor), other.shape(tensor)
    if ours != theirs:
        raise InputError(f"{name} has shape {list(theirs)} for {tensor}, the base {list(ours)}; merge equal shapes")
    if base.is_float(tensor) != other.is_float(tensor):
        kinds = other.dtype(tensor), base.dtype(tensor)
        raise InputError(f"{name} stores {tensor} as {kinds[0]}, the base as {kinds[1]}; convert one of them")


def _layers(checkpoint: Checkpoint) -> int:
    """Number of repeated blocks: `model.layers.3.mlp.up_proj.weight` is of block `model.layers.3`."""
    blocks = (re.match(r"(.*?\.\d+)\.", name) for name in checkpoint.names)
    return len({match[1] for match in blocks if match})


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
