"""A directory into a bucket: contents first, the manifest that names them last."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from . import manifest as manifests
from .bucket import Bucket
from .hashes import Hashes
from .layout import Layout
from .lease import LeaseLost
from .manifest import Entry, Manifest, file_entry

KEPT = 4
"""Newest manifests that stay, with all that they name: readers of the last minutes find what they began to read."""


def publish(
    bucket: Bucket, folder: Path, layout: Layout, last: Manifest, writer: str, hashes: Hashes, work: Path
) -> Manifest:
    """Publish the directory as the state after `last`; `last` itself if nothing has changed.

    Args:
        bucket: where to.
        folder: the directory; others may write to it meanwhile.
        layout: which of its files count.
        last: the newest manifest; must be ours or the one that this work started from.
        writer: who publishes.
        hashes: of the folder's files.
        work: folder for what lies on disk only until it is uploaded.

    Raises:
        LeaseLost: somebody else published after `last`.
        StorageLost, InputError: the bucket cannot be written to; the old state stands.
    """
    there = {entry.hash for entry in last.files.values()}
    files: dict[str, Entry] = {}
    snapshot = work / "snapshot.db"
    try:
        if layout.snapshot(folder, snapshot):
            files[layout.database] = _send(bucket, snapshot, file_entry(snapshot), there)
        for name in layout.files(folder):
            try:
                files[name] = _stored(bucket, folder / name, hashes, name, there, work)
            except FileNotFoundError:
                continue  # replaced or removed while we looked: the next publication has what is there then
    finally:
        snapshot.unlink(missing_ok=True)
    if files == dict(last.files):
        return last
    made = Manifest(last.number + 1, writer, files)
    if not bucket.create(made.name, made.to_bytes()):
        raise LeaseLost(f"{bucket.url}: another process published after ours; this run ends, its own files are kept")
    hashes.save()
    return made


def _stored(bucket: Bucket, path: Path, hashes: Hashes, name: str, there: set[str], work: Path) -> Entry:
    """Store a file's contents. A file that grows (a log) is copied first: what is sent must be what was hashed."""
    entry = hashes.entry(name)
    if entry.hash in there:
        return entry
    if entry.size > 64 * 2**20:  # checkpoints, which appear whole and are not written to again
        return _send(bucket, path, entry, there)
    still = work / "sending"
    shutil.copyfile(path, still)
    try:
        return _send(bucket, still, file_entry(still), there)
    finally:
        still.unlink()


def _send(bucket: Bucket, path: Path, entry: Entry, there: set[str]) -> Entry:
    if entry.hash not in there:
        bucket.upload(entry.object, path)
        there.add(entry.hash)
    return entry


def sweep(bucket: Bucket, state: Manifest, alive: Callable[[], None], *, whole: bool = False) -> None:
    """Remove manifests older than the newest few, and objects that only they named.

    Args:
        bucket: of which this process holds the lease.
        state: the newest manifest.
        alive: asked before anything is removed; raises if the lease is lost.
        whole: look at every object, also those that an interrupted publication left.
    """
    known = manifests.numbers(bucket)
    old, kept = known[:-KEPT], known[-KEPT:]
    if not old and not whole:
        return
    needed = {entry.object for entry in state.files.values()}
    for number in kept:
        needed |= {entry.object for entry in manifests.read(bucket, number).files.values()}
    if whole:
        named = set(bucket.names("objects"))
    else:
        named = {entry.object for number in old for entry in manifests.read(bucket, number).files.values()}
    alive()
    bucket.delete(replace(state, number=number).name for number in old)
    bucket.delete(sorted(named - needed))
