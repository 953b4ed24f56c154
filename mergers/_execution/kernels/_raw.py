"""Stretches of memory as kernels take them: tables of addresses and types."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import memmove
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Integers = np.ndarray[Any, np.dtype[np.int64]]

STEP = 64
"""Entries that a kernel takes at once."""

_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.uint8: 3}
_BYTES = (4, 2, 2, 1)


class Raw(NamedTuple):
    """The memory of a contiguous tensor. It must outlive this.

    Attributes:
        address: of the first entry.
        code: 0 float32, 1 bfloat16, 2 float16, 3 uint8 (tables of bytes only).
        size: in entries.
    """

    address: int
    code: int
    size: int


def raw(tensor: Tensor) -> Raw:
    """The memory of `tensor`: contiguous, on the CPU, of one of the four types."""
    assert tensor.device.type == "cpu", "kernels read memory of the CPU"
    assert tensor.is_contiguous(), "kernels read contiguous memory"
    return Raw(tensor.data_ptr(), _CODES[tensor.dtype], tensor.numel())


def scratch(entries: int, dtype: type[np.generic]) -> np.ndarray[Any, Any]:
    """Memory for a kernel, from a multiple of 64 bytes on: a vector that crosses cache lines takes twice as long.

    Kernels get it from outside because numba frees an array of their own at its last mention, and an address is none.
    """
    size = np.dtype(dtype).itemsize
    memory = np.empty(entries * size + 64, dtype=np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + entries * size].view(dtype)


class Stretch:
    """Entries [start, stop) of several tensors, in whole vectors and a padded copy of what is left.

    Attributes:
        addresses: int64; row 0 for the whole vectors, row 1 for the copy, both counted from entry `start`.
        codes: int64 types.
        whole: entries in whole vectors.
        rest: entries left, 0 to 63.
    """

    def __init__(self, tensors: Sequence[Raw | None], start: int, stop: int) -> None:
        assert all(x is None or 0 <= start <= stop <= x.size for x in tensors), "a stretch within its tensors"
        self.rest = (stop - start) % STEP
        self.whole = stop - start - self.rest
        present = [Raw(0, 0, 0) if x is None else x for x in tensors]
        self.codes = np.array([x.code for x in present], dtype=np.int64)
        sizes = [_BYTES[x.code] for x in present]
        firsts = [x.address + start * size for x, size in zip(present, sizes, strict=True)]
        copies = [0] * len(present)
        if self.rest:
            self._padding = np.zeros((len(present), STEP), dtype=np.float32)
            for i, (tensor, first, size) in enumerate(zip(tensors, firsts, sizes, strict=True)):
                copies[i] = self._padding[i].ctypes.data - self.whole * size
                if tensor is not None:
                    memmove(copies[i] + self.whole * size, first + self.whole * size, self.rest * size)
        self._sizes = sizes
        self.addresses: Integers = np.array([firsts, copies], dtype=np.int64)

    @property
    def tables(self) -> tuple[Integers, Integers, int, int]:
        """What most kernels take. Valid as long as this stretch is."""
        return self.addresses, self.codes, self.whole, self.rest

    def finish(self) -> None:
        """Bring what a kernel wrote into the copy of the last tensor to where it belongs."""
        if self.rest:
            size = self._sizes[-1]
            first, copy = (int(row[-1]) + self.whole * size for row in self.addresses)
            memmove(first, copy, self.rest * size)
