"""Hashes of files that are known, so that a checkpoint of gigabytes is read once and not at every publication."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .manifest import Entry, file_entry


class Hashes:
    """Relative path -> contents, as long as size, time and inode are those that were hashed."""

    def __init__(self, folder: Path, file: Path) -> None:
        """Of the files below `folder`; kept in `file`."""
        self._folder, self._file = folder, file
        try:
            held = json.loads(file.read_text("utf-8"))
            self._known = {str(name): (tuple(stamp), Entry(*entry)) for name, (stamp, entry) in held.items()}
        except (OSError, ValueError, TypeError):
            self._known = {}

    def entry(self, name: str) -> Entry:
        """Contents of a file. Raises FileNotFoundError if it is gone."""
        path = self._folder / name
        stamp = _stamp(path)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            entry = file_entry(path)
            if _stamp(path) != stamp:
                return entry  # written to meanwhile: right for what was read, not to be remembered
            known = self._known[name] = (stamp, entry)
        return known[1]

    def is_at(self, name: str, entry: Entry) -> bool:
        """Whether a file has these contents."""
        try:
            return self.entry(name) == entry
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return False

    def save(self) -> None:
        """Keep what is known for the next process."""
        partial = self._file.with_name(f".{self._file.name}.part")
        partial.write_text(json.dumps({name: [stamp, [e.hash, e.size]] for name, (stamp, e) in self._known.items()}))
        partial.replace(self._file)


def _stamp(path: Path) -> tuple[int, ...]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino
