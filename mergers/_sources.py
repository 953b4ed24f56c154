"""The inputs of a merge: base and experts, opened once per process, read as float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from ._checkpoint import INDEX, SINGLE, Checkpoint, all_tied, compare, open_checkpoint
from ._errors import InputError

_OPEN_SETS = 8  # expert sets kept open per process: a run searches a few and scores each model alone once


@dataclass(frozen=True)
class Sources:
    """Base and experts by path; picklable, opened on first use in each process.

    Attributes:
        base: checkpoint directory that every expert started from.
        experts: checkpoint directories, in merge order.
        cache_bytes: how much of them may be kept converted to float32 (or on another device). What is stored
            as float32 is read through the map without a copy. Beyond the limit tensors are converted each
            time.
    """

    base: str
    experts: tuple[str, ...]
    cache_bytes: int = 1 << 28

    def open(self) -> Opened:
        """The opened inputs; opened again when a checkpoint's file was replaced.

        Raises:
            InputError: see `open_checkpoint` and `compare`.
        """
        return _opened(self, tuple(_stamp(path) for path in (self.base, *self.experts)))


@lru_cache(maxsize=_OPEN_SETS)
def _opened(sources: Sources, stamps: tuple[tuple[int, ...], ...]) -> Opened:
    return Opened(sources)


def _stamp(path: str) -> tuple[int, ...]:
    for name in (SINGLE, INDEX):
        try:
            status = (Path(path) / name).stat()
        except OSError:
            continue
        return (status.st_ino, status.st_size, status.st_mtime_ns)
    return ()


class Opened:
    """Opened and compared inputs of one expert set.

    Attributes:
        base: reader of the base.
        experts: readers, in merge order.
    """

    def __init__(self, sources: Sources) -> None:
        budget = Budget(sources.cache_bytes)
        self.base = Reader(open_checkpoint(sources.base), f"base {sources.base}", budget)
        self.experts = tuple(Reader(open_checkpoint(path), f"expert {path}", budget) for path in sources.experts)
        checkpoints = [reader.checkpoint for reader in (self.base, *self.experts)]
        for expert in self.experts:
            compare(self.base.checkpoint, expert.checkpoint, expert.name)
        self._head = next((one.head for one in checkpoints if one.head), "lm_head.weight")
        self._tied = all_tied(tuple(checkpoints))
        self._agreed: dict[str, Tensor] = {}

    def source_name(self, name: str) -> str:
        """The tensor whose merge `name` is: a head that all inputs tie is merged as their embedding."""
        embedding = self.base.checkpoint.embedding
        if name == self._head and embedding is not None and self._tied:
            return embedding
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of tensor `name` of the base, a tied head included.

        Raises:
            InputError: the base has no such tensor.
        """
        source = self.source_name(name)
        if source not in self.base.checkpoint:
            raise InputError(f"tensor {name} of the live model is not in {self.base.name}; load this base")
        return self.base.checkpoint.shape(source)

    def inputs(self, name: str, device: torch.device) -> Inputs:
        """The experts' tensors `name`, float32 on `device`, each read when it is asked for."""
        return Inputs(self.experts, name, device)

    def agreed(self, name: str) -> Tensor:
        """Tensor `name` that does not hold floats: the base's, which every expert must share.

        Raises:
            InputError: an expert holds other values.
        """
        if name not in self._agreed:
            ours = self.base.checkpoint.read(name)
            for expert in self.experts:
                if not torch.equal(ours, expert.checkpoint.read(name)):
                    raise InputError(f"{expert.name} differs from the base in integer tensor {name}; make them equal")
            self._agreed[name] = ours
        return self._agreed[name]


@dataclass
class Budget:
    """Bytes that may still be cached."""

    left: int


class Reader:
    """One checkpoint, read as float32. A tensor is checked for NaN and infinity when it is first read."""

    def __init__(self, checkpoint: Checkpoint, name: str, budget: Budget) -> None:
        self.checkpoint = checkpoint
        self.name = name
        self._budget = budget
        self._views: dict[tuple[str, torch.device], Tensor] = {}
        self._checked: set[str] = set()

    def read(self, name: str, device: torch.device) -> Tensor:
        """Tensor `name`, float32 on `device`; not to be written to. A head that is not stored: the embedding.

        Raises:
            InputError: it holds NaN or infinity.
        """
        if name not in self.checkpoint and self.checkpoint.embedding is not None:
            name = self.checkpoint.embedding  # `compare` has made sure that only a tied head is missing
        key = (name, device)
        if key in self._views:
            return self._views[key]
        stored = self.checkpoint.read(name)
        if name not in self._checked:
            self._check(name, stored)
        converted = stored.to(device, torch.float32)
        size = 0 if converted.data_ptr() == stored.data_ptr() else converted.numel() * 4
        if size <= self._budget.left:
            self._budget.left -= size
            self._views[key] = converted
        return converted

    def _check(self, name: str, stored: Tensor) -> None:
        if stored.numel() and not torch.isfinite(torch.stack(torch.aminmax(stored))).all():
            bad = int((~torch.isfinite(stored)).sum())
            raise InputError(f"{self.name} holds {bad} NaN or infinite numbers in {name}; train or save it again")
        self._checked.add(name)


class Inputs(Sequence[Tensor]):
    """Float32 tensors of one name, one per expert; read when asked for, to save memory."""

    def __init__(self, readers: Sequence[Reader], name: str, device: torch.device) -> None:
        self._readers, self._name, self._device = readers, name, device

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Inputs: ...
    def __getitem__(self, index: int | slice) -> Tensor | Inputs:
        if isinstance(index, slice):
            return Inputs(self._readers[index], self._name, self._device)
        return self._readers[index].read(self._name, self._device)
