"""The log of a job: one file over all attempts, followed by byte offset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CHUNK = 64 * 1024
LINE = 16 * 1024
"""Bytes of a line that are shown; a longer one is shown in pieces."""


def last_line(log: Path) -> str:
    """The last line that a run wrote as an error, else its last one; "" without a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    told = [line.removeprefix("mergefront: ") for line in lines if line.startswith("mergefront: ")]
    told = [line for line in told if not line.startswith("what ran is kept")] or lines
    return told[-1][:500] if told else ""


def whole_lines(log: Path, offset: int, *, rest: bool) -> Iterator[tuple[int, str]]:
    """Lines from a byte offset on, at most a chunk of them.

    Args:
        log: the file; none is an empty one.
        offset: where to begin, in bytes; beyond the end is the end.
        rest: also give a last line that has no end yet.

    Yields:
        (offset behind the line, the line without its end).
    """
    try:
        with log.open("rb") as file:
            if offset >= os.fstat(file.fileno()).st_size:
                return  # a place that no file can have is one behind the end, too
            file.seek(offset)
            text = file.read(CHUNK)
    except FileNotFoundError:
        return
    while text:
        end = text.find(b"\n", 0, LINE)
        if end < 0 and len(text) < LINE and not rest:
            return
        line, taken = (text[:end], end + 1) if end >= 0 else (text[:LINE], min(LINE, len(text)))
        offset, text = offset + taken, text[taken:]
        yield offset, line.rstrip(b"\r").decode("utf-8", "replace")
