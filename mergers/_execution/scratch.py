"""Working memory of the size of a tensor that should not count against the process: an unlinked, mapped file."""

from __future__ import annotations

import mmap
import os
import tempfile

import torch
from torch import Tensor

_SMALL = 1 << 16  # bytes that are not worth a file


def scratch(size: int) -> Tensor:
    """A uint8 tensor of `size` entries. Large ones lie in a temporary file (`TMPDIR`), which ends with the tensor.

    The system may write their pages out instead of holding them; where the disk has no room they are plain memory.
    """
    if size < _SMALL:
        return torch.empty(size, dtype=torch.uint8)
    folder = tempfile.gettempdir()
    status = os.statvfs(folder)
    if status.f_bavail * status.f_frsize < 2 * size:
        return torch.empty(size, dtype=torch.uint8)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
