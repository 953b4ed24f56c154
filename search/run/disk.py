"""Writes that wait for a full disk: room is usually made by somebody within a minute, and a run is worth the wait."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
PAUSE_S = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(RuntimeError):
    """There was no room for too long; everything written before is kept, and the same command goes on."""


def patient(write: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """`write()`, again while there is no room; it must do the same whether or not it was begun before.

    Raises:
        DiskFull: no room within `patience_s`; names `what`.
        OSError: anything else that is wrong.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return write()
        except OSError as error:
            if not is_full(error):
                raise
            if time.monotonic() + PAUSE_S > deadline:
                raise DiskFull(f"{what}: no room on the disk for {patience_s:g} s; make some, then go on") from None
        time.sleep(PAUSE_S)


def is_full(error: OSError) -> bool:
    """Whether a disk, or somebody's quota of it, is full; pyarrow says so in words alone."""
    return error.errno in _FULL or "No space left on device" in str(error)
