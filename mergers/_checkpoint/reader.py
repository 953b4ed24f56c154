"""One input of a merge: a checkpoint, in the vocabulary of the output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .._errors import InputError
from .._vocabulary.policy import Vocabulary
from .checkpoint import Checkpoint
from .compare import is_buffer

_BLOCK = 1 << 22  # entries checked at a time


class Place(NamedTuple):
    """A model's place in a vocabulary plan."""

    plan: Vocabulary
    model: int


class Reader:
    """A checkpoint's tensors as they are stored; embedding and head in the output's vocabulary.

    What `compare` allows a checkpoint to lack has a stand-in: its embedding for an output head, and the tensor of
    `base` for a buffer.

    Attributes:
        checkpoint: what is read.
        name: how errors call it.
    """

    def __init__(
        self, checkpoint: Checkpoint, name: str, base: Checkpoint | None = None, place: Place | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.name = name
        self._base = checkpoint if base is None else base
        self._place = place

    def stored(self, name: str) -> Tensor:
        """Tensor `name`: contiguous, on the CPU, not to be written to; may hold NaN or infinity (see `blame`).

        A view of the file's map in its stored type; float32 where the vocabulary changes its rows.
        """
        holder, own = self._holder(name)
        tensor = holder.read(own)
        if self._place is None or not self._moves(own):
            return tensor
        return self._place.plan.tensor(self._place.model, own, tensor.float())

    def described(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Stored type and output shape of tensor `name`, or of its stand-in."""
        holder, own = self._holder(name)
        shape = holder.shape(own)
        if self._place is not None and self._moves(own):
            shape = (self._place.plan.rows, *shape[1:])
        return holder.dtype(own), shape

    def _moves(self, own: str) -> bool:
        place = self._place
        return place is not None and place.plan.covers(own) and not place.plan.unchanged(place.model)

    def blame(self, name: str, found: int) -> InputError:
        """The error for tensor `name`, `found` of whose numbers are not finite in float32. Needs no copy of it."""
        holder, own = self._holder(name)
        bad = _count_bad(holder.read(own))
        if bad:
            return InputError(f"{self.name} holds {bad} NaN or infinite numbers in {own}; train or save it again")
        return InputError(f"{self.name} holds {found} numbers beyond float32's range in {own}; train or save it again")

    def _holder(self, name: str) -> tuple[Checkpoint, str]:
        """The checkpoint that `name` is read from, and its name there."""
        if name in self.checkpoint:
            return self.checkpoint, name
        if name in self._base and is_buffer(name, self._base.shape(name)):
            return self._base, name
        assert self.checkpoint.embedding is not None, f"{self.name} lacks {name}"  # `compare` refuses any other lack
        return self.checkpoint, self.checkpoint.embedding


def _count_bad(tensor: Tensor) -> int:
    if not tensor.is_floating_point():
        return 0
    return sum(int((~torch.isfinite(block)).sum()) for block in _blocks(tensor) if not _finite(block))


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    flat = tensor.reshape(-1)
    return (flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK))


def _finite(block: Tensor) -> bool:
    """Whether a block that is not empty holds finite numbers only: NaN and infinity both reach an extreme."""
    least, most = torch.aminmax(block)
    return bool(torch.isfinite(least)) and bool(torch.isfinite(most))
