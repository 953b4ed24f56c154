"""What a directory held at one moment: names, contents by hash. The newest manifest of a bucket is its state.

Manifests are numbered and made once each: of two writers that would both make number 12, one fails. Objects are named
by their contents and are there before a manifest names them, so a reader finds the old state or the new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .._errors import InputError
from .bucket import Bucket

FORMAT = 1
FOLDER = "manifests"
_NAME = re.compile(rf"{FOLDER}/(\d{{10}})\.json")


@dataclass(frozen=True)
class Entry:
    """A file's contents: SHA-256 (hex) and bytes."""

    hash: str
    size: int

    @property
    def object(self) -> str:
        """Name of the object that holds them."""
        return f"objects/{self.hash[:2]}/{self.hash}"


@dataclass(frozen=True)
class Manifest:
    """State number `number` of a directory: relative path -> contents; `writer` made it."""

    number: int
    writer: str
    files: Mapping[str, Entry]

    @property
    def name(self) -> str:
        """Of its object."""
        return f"{FOLDER}/{self.number:010d}.json"

    def to_bytes(self) -> bytes:
        """As stored."""
        files = {path: [entry.hash, entry.size] for path, entry in sorted(self.files.items())}
        text = json.dumps({"format": FORMAT, "number": self.number, "writer": self.writer, "files": files}, indent=0)
        return text.encode()


EMPTY = Manifest(0, "", {})


def numbers(bucket: Bucket) -> list[int]:
    """Numbers of the manifests that are there, rising."""
    return sorted(int(found[1]) for name in bucket.names(FOLDER) if (found := _NAME.fullmatch(name)))


def newest(bucket: Bucket) -> Manifest:
    """The state of a bucket; number 0 if nothing was published yet.

    Raises:
        InputError: a newer mergefront wrote it, or it is not ours.
    """
    while found := numbers(bucket):
        try:
            return read(bucket, found[-1])
        except FileNotFoundError:  # older than the newest few by now, and removed
            continue
    return EMPTY


def read(bucket: Bucket, number: int) -> Manifest:
    """Manifest `number`. Raises FileNotFoundError, and InputError as `newest` does."""
    name = Manifest(number, "", {}).name
    data = bucket.read(name)
    try:
        held = json.loads(data)
        version = int(held["format"])
        if version <= FORMAT:
            files = {str(path): Entry(str(entry[0]), int(entry[1])) for path, entry in held["files"].items()}
            return Manifest(number, str(held["writer"]), files)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise InputError(f"{bucket.url}: {name} is no manifest of ours; name another prefix") from None
    rule = f"this run was written by a newer mergefront (format {version}, known here: {FORMAT})"
    raise InputError(f"{bucket.url}: {rule}; update mergefront")


def file_entry(path: Path) -> Entry:
    """Hash a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry(digest, file.tell())
