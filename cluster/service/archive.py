"""A checkpoint directory as one tar file that is never on disk, of a length known before its first byte."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 2**20
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)


@dataclass(frozen=True)
class Entry:
    """A file of the archive: its place, its size when we looked, and its tar header."""

    path: Path
    size: int
    header: bytes


def entries(folder: Path, name: str) -> tuple[Entry, ...]:
    """The plain files of `folder`, below `name/` in the archive, in order of their names; links are left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        info = tarfile.TarInfo(f"{name}/{path.relative_to(folder).as_posix()}")
        info.size, info.mode = path.stat().st_size, 0o644
        # PAX: sizes above 8 GB. No time and no owner: the same checkpoint is the same bytes.
        found.append(Entry(path, info.size, info.tobuf(tarfile.PAX_FORMAT)))
    return tuple(found)


def length(files: tuple[Entry, ...]) -> int:
    """Bytes of the archive."""
    return sum(len(file.header) + _padded(file.size) for file in files) + len(END)


def stream(files: tuple[Entry, ...]) -> Iterator[bytes]:
    """The archive in pieces.

    Raises:
        OSError: a file is gone or shorter than it was; the download then ends early, which its length tells.
    """
    for entry in files:
        yield entry.header
        left = entry.size
        with entry.path.open("rb") as file:
            while left:
                piece = file.read(min(CHUNK, left))
                if not piece:
                    raise OSError(f"{entry.path.name}: shorter than it was")
                left -= len(piece)
                yield piece
        yield bytes(_padded(entry.size) - entry.size)
    yield END


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
