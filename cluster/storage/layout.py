"""Which files of a directory are published, and what of a database that is written to meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """A kind of directory.

    Attributes:
        database: SQLite file that is published as a snapshot of one moment, before all other files are listed: what its
            rows speak of is then among them. "" = none.
        left_out: names at the top that are not published.
        hidden: names with a leading dot that are published all the same; others are somebody's unfinished work.
    """

    database: str = ""
    left_out: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def files(self, folder: Path) -> Iterator[str]:
        """Relative paths to publish, sorted; the database's own files are not among them."""
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if self.holds(str(relative)) and str(relative) != self.database and path.is_file():
                yield str(relative)

    def holds(self, name: str) -> bool:
        """Whether a relative path is one that is published."""
        parts = Path(name).parts
        if name in (f"{self.database}-wal", f"{self.database}-shm", f"{self.database}-journal"):
            return False
        return parts[0] not in self.left_out and not any(
            part.startswith(".") and part not in self.hidden for part in parts
        )

    def snapshot(self, folder: Path, target: Path) -> bool:
        """Copy the database as it is at one moment, whoever writes to it; False if there is none."""
        source = folder / self.database
        if not self.database or not source.is_file():
            return False
        target.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60.0)) as live,
            closing(sqlite3.connect(target, timeout=60.0)) as copy,
        ):
            live.backup(copy)
        return True
