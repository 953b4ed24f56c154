"""A bucket's newest state into a directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from . import manifest as manifests
from .bucket import Bucket
from .hashes import Hashes
from .layout import Layout
from .manifest import Entry, Manifest, file_entry

_TRIES = 5
Wanted = Callable[[str], bool]


class Damaged(RuntimeError):
    """An object of the bucket has not the contents that its name says."""

    exit_status = 1


def everything(_name: str) -> bool:
    """Every file is wanted."""
    return True


def restore(
    bucket: Bucket, folder: Path, layout: Layout, hashes: Hashes, wanted: Wanted = everything, like: Path | None = None
) -> Manifest:
    """Make the directory the newest state of the bucket; files that are there already are not fetched again.

    Args:
        bucket: where from.
        folder: the directory; files that the state has not are removed.
        layout: which files count; others are left alone.
        hashes: of the folder's files.
        wanted: which of the state's files to fetch; the others that are there stay only if they are the state's.
        like: another copy of the same directory, whose large files may be shared by links.

    Returns:
        The state.

    Raises:
        InputError: a newer mergefront wrote it, or it cannot be read.
        StorageLost, Damaged: see there.
    """
    for _ in range(_TRIES):
        state = manifests.newest(bucket)
        try:
            _fetch(bucket, folder, layout, hashes, state, wanted, like)
            return state
        except FileNotFoundError:
            continue  # published anew meanwhile, several times: what the old state named is gone
    raise Damaged(f"{bucket.url}: objects that its manifest names are missing")


def _fetch(
    bucket: Bucket, folder: Path, layout: Layout, hashes: Hashes, state: Manifest, wanted: Wanted, like: Path | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*layout.files(folder), *([layout.database] if layout.database else [])]:
        if name not in state.files or not hashes.is_at(name, state.files[name]):
            (folder / name).unlink(missing_ok=True)
            if name == layout.database:
                for end in ("-wal", "-shm"):  # of another database by now
                    (folder / f"{name}{end}").unlink(missing_ok=True)
    for name, entry in state.files.items():
        if wanted(name) and not hashes.is_at(name, entry):
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise Damaged(f"{bucket.url}: its manifest names a file outside the directory")
            target.parent.mkdir(parents=True, exist_ok=True)
            get(bucket, entry, target, None if like is None else like / name)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and layout.holds(str(path.relative_to(folder))) and not any(path.iterdir()):
            path.rmdir()
    hashes.save()


def get(bucket: Bucket, entry: Entry, target: Path, twin: Path | None = None) -> None:
    """Fetch contents into a file, which appears whole; checked against their hash.

    Raises:
        FileNotFoundError: no such object.
        Damaged: other contents than its name says.
    """
    partial = target.with_name(f".{target.name}.part")
    partial.unlink(missing_ok=True)
    if twin is not None and twin.suffix == ".safetensors" and twin.is_file() and twin.stat().st_size == entry.size:
        _link(twin, partial)  # weights are never written to again
    else:
        bucket.download(entry.object, partial)
    if file_entry(partial) != entry:
        partial.unlink()
        raise Damaged(f"{bucket.url}: {entry.object} has other contents than its name says")
    partial.replace(target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
