"""Checkpoints and data at URLs: fetched once into the local cache, and kept there while this process lives."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from .._errors import InputError
from . import cache, urls
from .bucket import Bucket

WAIT_S = 4 * 3600.0
"""How long another process may take to fetch the same."""

_kept: dict[str, tuple[Any, Path]] = {}


def local(url: str) -> Path:
    """The directory or file at a URL, here. What is there already in this very version is not fetched again.

    Raises:
        InputError: the URL cannot be used, or nothing is there.
        StorageLost: the bucket does not answer.
    """
    if url in _kept:
        return _kept[url][1]
    place = urls.parse(url)
    bucket = Bucket(place)
    bucket.check()
    listing = bucket.listing()
    if not listing:
        raise InputError(f"{url}: nothing is there; check the URL")
    version = hashlib.sha256(json.dumps([url, listing]).encode()).hexdigest()[:16]
    home = cache.entry("inputs", version)
    guard = (home / ".lock").open("a+")
    target = home / "copy" / place.path.rsplit("/", 1)[-1]
    _lock(guard, fcntl.LOCK_SH, url)
    if not (home / "complete").exists():
        _lock(guard, fcntl.LOCK_EX, url)
        if not (home / "complete").exists():
            shutil.rmtree(home / "copy", ignore_errors=True)
            for name in listing:
                file = target / name if name else target
                file.parent.mkdir(parents=True, exist_ok=True)
                bucket.download(name, file)
            (home / "complete").touch()
        _lock(guard, fcntl.LOCK_SH, url)
    _kept[url] = guard, target  # the lock keeps the cache from removing what is in use
    return target


def _lock(guard: Any, kind: int, url: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return fcntl.flock(guard, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise InputError(f"{url}: another process has been fetching it for {WAIT_S:g} s") from None
            time.sleep(0.5)
