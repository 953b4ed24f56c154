"""One safetensors file written through a memory map, so that what it costs in memory is what is being touched."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import InputError
from .._execution.threads import in_order
from .safetensors import Slot, layout

if TYPE_CHECKING:
    from torch import Tensor

UNFINISHED = ".writing"
"""Suffix of a file that is not whole yet."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a write that found no room."""

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_AT_ONCE = 1 << 26  # bytes handed to the disk at a time while the next are computed
_ZEROS = bytes(1 << 20)

_maps: list[tuple[int, int]] = []  # addresses of the maps being written, which alone `release` may touch


def write_file(file: Path, slots: Sequence[Slot], fill: Callable[[Slot, Tensor], None], *, at_once: int = 1) -> None:
    """Write one safetensors file of `slots`, in that order: whole and on the disk, or not there at all.

    Room for all of it is taken first. Pages that were written leave the process (and the page cache) as soon as
    the disk has them; within one tensor `release` does it.

    Args:
        file: to be made; replaced if it exists.
        slots: wide types first, so that every tensor can be mapped (see `layout`).
        fill: called once per slot with a contiguous CPU tensor of the slot's type and shape, holding zeros; it
            writes the values there and must not keep the tensor.
        at_once: calls of `fill` at the same time.

    Raises:
        InputError: the disk or the limit on file sizes has too little room.
    """
    head, places = layout(slots)
    unfinished = file.with_name(file.name + UNFINISHED)
    room = free_bytes(file.parent)
    try:
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _reserve(descriptor, places[-1])
            _fill(descriptor, head, places, slots, fill, at_once)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        os.replace(unfinished, file)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        if isinstance(error, OSError) and error.errno in FULL:
            raise no_room(file.parent, f"writing {file.name}", places[-1], room, error) from error
        raise


def release(tensor: Tensor) -> None:
    """Give back the memory of (a part of) the tensor that `fill` is writing; its values stay in the file.

    For tensors that are written block by block: what was written counts as the process's memory until then.
    """
    start = tensor.data_ptr()
    stop = start + tensor.numel() * tensor.element_size()
    assert any(low <= start and stop <= high for low, high in _maps), "not a tensor that is being written"
    start, stop = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if stop > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the disk of `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def no_room(folder: Path, what: str, needed: int, free: int, error: OSError | None = None) -> InputError:
    """The error for `needed` bytes of `what` that do not fit the `free` ones of the disk of `folder`."""
    reason = f" ({error.strerror})" if error is not None else ""
    large = error is not None and error.errno == errno.EFBIG
    remedy = "raise the limit on file sizes (ulimit -f)" if large else "make room or choose another disk"
    return InputError(
        f"{what} needs {_amount(needed)}, the disk of {folder} has {_amount(free)} free{reason}; {remedy}"
    )


def _amount(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**8 else f"{count} bytes"


def _reserve(descriptor: int, size: int) -> None:
    """Make the file `size` bytes of zeros that the disk has room for."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        for start in range(0, size, len(_ZEROS)):
            block = memoryview(_ZEROS)[: size - start]
            while block:
                block = block[os.write(descriptor, block) :]


def _fill(
    descriptor: int,
    head: bytes,
    places: Sequence[int],
    slots: Sequence[Slot],
    fill: Callable[[Slot, Tensor], None],
    at_once: int,
) -> None:
    import torch

    mapped = mmap.mmap(descriptor, places[-1], mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    mapped[: len(head)] = head
    whole = torch.frombuffer(mapped, dtype=torch.uint8)
    span = (whole.data_ptr(), whole.data_ptr() + places[-1])
    _maps.append(span)
    handed = 0

    def one(place: tuple[Slot, int, int]) -> int:
        slot, start, stop = place
        fill(slot, whole[start:stop].view(getattr(torch, slot.dtype)).view(slot.shape))
        return stop

    try:
        for stop in in_order(one, zip(slots, places, places[1:], strict=False), at_once, "write"):
            if stop - handed >= _AT_ONCE:
                page = handed // mmap.PAGESIZE * mmap.PAGESIZE
                mapped.madvise(mmap.MADV_DONTNEED, page, stop - page)
                os.posix_fadvise(descriptor, page, stop - page, os.POSIX_FADV_DONTNEED)  # also starts the writing
                handed = stop
        mapped.flush()
        mapped.madvise(mmap.MADV_DONTNEED)
    finally:
        _maps.remove(span)
