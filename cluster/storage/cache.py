"""Local copies of what lies in buckets: one folder for each URL, in use by one process at a time, bounded in size."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from .._errors import InputError

CACHE, SIZE = "MERGEFRONT_CACHE", "MERGEFRONT_CACHE_SIZE"
DEFAULT_BYTES = 200 * 10**9
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@dataclass
class State:
    """What a copy is: of `url`, equal to manifest `number` unless `dirty` (written to since, and not published)."""

    url: str
    number: int = 0
    dirty: bool = False


class Copy:
    """A copy that this process holds: `folder` is the directory itself, `home` holds what is known of it."""

    def __init__(self, home: Path, url: str) -> None:
        """Of an entry that is locked."""
        self.home, self.folder = home, home / "copy"
        try:
            self.state = State(**json.loads((home / "state.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            self.state = State(url)

    def save(self, **changes: object) -> None:
        """Keep the state."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        partial = self.home / ".state.part"
        partial.write_text(json.dumps(asdict(self.state)))
        partial.replace(self.home / "state.json")

    def set_aside(self) -> Path:
        """Put what was never published out of the way, in the place of what was put there before."""
        aside = self.home / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        self.folder.rename(aside)
        return aside


def root() -> Path:
    """Folder of all copies."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mergefront"
    return Path(os.environ.get(CACHE) or default) / "storage"


def bound() -> int:
    """Bytes that copies which are not in use may take together.

    Raises:
        InputError: the environment states no size.
    """
    text = os.environ.get(SIZE, "")
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b?)", text.strip().lower())
    if not text:
        return DEFAULT_BYTES
    if found is None:
        raise InputError(f"{SIZE}: must be a size in bytes such as 200GB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2] if found[2].endswith("b") or not found[2] else f"{found[2]}b"])


@contextmanager
def hold(kind: str, url: str, *, wait_s: float = 0.0) -> Iterator[Copy]:
    """The copy of a URL, held until the end; made if there is none. Others are removed first if they take too much.

    Args:
        kind: `runs` are worked on, `views` are read, `inputs` never change.
        url: what it is a copy of.
        wait_s: how long to wait for another process.

    Raises:
        InputError: another process of this machine holds it, or the folder cannot be written.
    """
    home = entry(kind, hashlib.sha256(url.encode()).hexdigest()[:16])
    with (home / ".lock").open("a+") as guard:
        deadline = time.monotonic() + wait_s
        while not _locked(guard.fileno()):
            if time.monotonic() >= deadline:
                told = "another mergefront process of this machine works on it"
                raise InputError(f"{url}: {told}; wait for it, stop it, or set {CACHE} to another folder")
            time.sleep(0.2)
        yield Copy(home, url)


def entry(kind: str, name: str) -> Path:
    """The folder of a copy, made if need be and used from now on; room is made first.

    Raises:
        InputError: it cannot be written.
    """
    home = root() / kind / name
    try:
        home.mkdir(parents=True, exist_ok=True)
        trim(bound(), keep=home)
        (home / ".lock").touch()
        os.utime(home)
    except OSError as error:
        raise InputError(f"{root()}: cannot be written ({error.strerror}); set {CACHE} to a folder that can") from None
    return home


def trim(most: int, keep: Path | None = None) -> None:
    """Remove copies, the longest unused first, until the others take at most `most` bytes.

    Never one in use, nor one whose work was not published.
    """
    homes = sorted(root().glob("*/*"), key=lambda home: home.stat().st_mtime, reverse=True)
    total = 0
    for home in homes:
        size = _bytes(home)
        if home == keep or total + size <= most or not _remove(home):
            total += size


def _remove(home: Path) -> bool:
    with contextlib.suppress(OSError), (home / ".lock").open("a+") as guard:
        if _locked(guard.fileno()) and not Copy(home, "").state.dirty:
            shutil.rmtree(home, ignore_errors=True)
            return True
    return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _bytes(home: Path) -> int:
    total = 0
    for folder, _, names in os.walk(home):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
