"""Directories of the driver's node on nodes that do not share its storage: fetched once by each node, checked, kept.

A worker asks the library, an actor beside the driver, what a directory holds. Where the node sees the very same files
under the same path (name, size, time of change), they are read in place: storage is shared. Else the files come through
Ray's object store into the node's cache, each known by its SHA-256, by one worker while the node's others wait for it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

CHUNK = 8 * 2**20
AHEAD = 4
"""Chunks under way to one worker: the way there and back is hidden, and the object store holds 32 MiB of it."""

FETCH_LIMIT_S = 3600.0
CACHE_GB = "MERGEFRONT_CACHE_GB"
CACHE = "MERGEFRONT_CACHE"


class Entry(NamedTuple):
    """A file of a directory: its name below it, bytes, time of change (ns), SHA-256."""

    name: str
    size: int
    changed: int
    digest: str


class Library:
    """The actor beside the driver that says what directories hold, and reads from them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}

    def listing(self, folder: str) -> tuple[Entry, ...]:
        """The plain files below a directory.

        Raises:
            FileNotFoundError: there is no such directory.
        """
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"{folder}: the driver's node has no such directory")
        found = []
        for path in sorted(root.rglob("*")):
            if path.is_file():
                state = path.stat()
                digest = self._digest(path, state.st_size, state.st_mtime_ns)
                found.append(Entry(path.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns, digest))
        return tuple(found)

    def _digest(self, path: Path, size: int, changed: int) -> str:
        key = str(path), size, changed
        if key not in self._known:
            with path.open("rb") as file:
                self._known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._known[key]

    def read(self, folder: str, name: str, offset: int) -> bytes:
        """At most `CHUNK` bytes of a file."""
        with (Path(folder) / name).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK)


@dataclass(frozen=True)
class Files:
    """What a worker holds of the library; picklable.

    Attributes:
        library: the actor.
        in_place: whether a node's own files may be used where they are the same.
    """

    library: Any
    in_place: bool = True

    def local(self, folder: str) -> str:
        """The directory as this node can read it.

        Raises:
            FileNotFoundError: the driver does not have it either.
            OSError: it could not be fetched, or is not what was announced.
            TimeoutError: not within an hour.
        """
        import ray

        listing = ray.get(self.library.listing.remote(folder), timeout=FETCH_LIMIT_S)
        if self.in_place and _same(Path(folder), listing):
            return folder
        return str(self._fetched(folder, listing))

    def _fetched(self, folder: str, listing: tuple[Entry, ...]) -> Path:
        from filelock import FileLock, Timeout

        cache = cache_folder()
        content = "\n".join(f"{entry.name} {entry.digest}" for entry in listing)
        tree = cache / hashlib.sha256(content.encode()).hexdigest()[:32]
        cache.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{tree}.lock", timeout=FETCH_LIMIT_S):
                if not tree.is_dir():
                    _make_room(cache, sum(entry.size for entry in listing), keep=tree)
                    self._fetch(folder, listing, tree)
        except Timeout:
            raise TimeoutError(f"{folder}: another process of this node has fetched it for too long") from None
        os.utime(tree)
        return tree

    def _fetch(self, folder: str, listing: tuple[Entry, ...], tree: Path) -> None:
        partial = tree.with_name(f".{tree.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        for entry in listing:
            target = partial / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._receive(folder, entry, target)
        partial.replace(tree)

    def _receive(self, folder: str, entry: Entry, target: Path) -> None:
        import ray

        offsets = deque(range(0, entry.size, CHUNK))
        under_way: deque[Any] = deque()
        digest = hashlib.sha256()
        with target.open("wb") as file:
            while offsets or under_way:
                while offsets and len(under_way) < AHEAD:
                    under_way.append(self.library.read.remote(folder, entry.name, offsets.popleft()))
                piece = ray.get(under_way.popleft(), timeout=FETCH_LIMIT_S)
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != entry.digest:
            raise OSError(f"{folder}/{entry.name}: changed while it was fetched; start the run again")


def open_files() -> Files:
    """Start the library beside the driver; it ends with the session."""
    import ray

    from ._place import here_only

    options = {"num_cpus": 0, "max_concurrency": 16, "max_restarts": 3, "max_task_retries": 3}
    return Files(ray.remote(Library).options(**options, scheduling_strategy=here_only()).remote())


def cache_folder() -> Path:
    """Where a node keeps what it fetched: $MERGEFRONT_CACHE, else ~/.cache/mergefront/shipped."""
    given = os.environ.get(CACHE)
    return Path(given) if given else Path.home() / ".cache" / "mergefront" / "shipped"


def _same(folder: Path, listing: tuple[Entry, ...]) -> bool:
    try:
        states = [(folder / entry.name).stat() for entry in listing]
    except OSError:
        return False
    return all((s.st_size, s.st_mtime_ns) == (e.size, e.changed) for s, e in zip(states, listing, strict=True))


def _make_room(cache: Path, needed: int, keep: Path) -> None:
    """Remove what was not used for longest until the cache stays below its bound ($MERGEFRONT_CACHE_GB, 500).

    What a process still maps stays readable for it: its files have no names any more, and go when it ends.

    Raises:
        OSError: more is needed than the disk or the bound has.
    """
    bound = float(os.environ.get(CACHE_GB, "500")) * 1e9
    trees = sorted((tree for tree in cache.glob("[0-9a-f]*") if tree.is_dir()), key=lambda tree: tree.stat().st_mtime)
    sizes = {tree: sum(file.stat().st_size for file in tree.rglob("*") if file.is_file()) for tree in trees}
    while trees and (sum(sizes[tree] for tree in trees) + needed > bound or _free(cache) < needed):
        oldest = trees.pop(0)
        if time.time() - oldest.stat().st_mtime < 60.0:
            break  # somebody has just asked for it
        shutil.rmtree(oldest, ignore_errors=True)
    if needed > bound or _free(cache) < needed:
        limits = f"{_free(cache) / 1e9:.1f} GB are free, the cache may hold {bound / 1e9:g} GB"
        raise OSError(f"{cache}: {needed / 1e9:.1f} GB do not fit ({limits}); name another disk in ${CACHE}")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
