"""The file that remembers: verdicts, the base's answers, what was spent, and tallies. SQLite, for several processes.

Verdicts cost money, so they outlive runs: by default one file for each user of a machine. Write-ahead logging lets
readers go on while somebody writes; it needs a local disk, as SQLite's own documentation says.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .errors import Unavailable

VARIABLE = "MERGEFRONT_CACHE"
WAIT_S = 60.0
"""Longest wait for another process that writes."""

_CHUNK = 500  # keys of one question to SQLite: below its limit of variables in every build
_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS verdicts (
    key BLOB PRIMARY KEY, verdict TEXT NOT NULL, reply TEXT NOT NULL, prompt TEXT NOT NULL, asked TEXT NOT NULL,
    served TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
    account TEXT PRIMARY KEY, replies INTEGER NOT NULL, invalid INTEGER NOT NULL, input INTEGER NOT NULL,
    output INTEGER NOT NULL, money REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tallies (
    account TEXT, evaluator TEXT, name TEXT, count INTEGER NOT NULL, PRIMARY KEY (account, evaluator, name)
    ) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Spent:
    """What an account has spent: replies paid for, those that were no verdict, tokens, money by the stated prices."""

    replies: int = 0
    invalid: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0


def default_file() -> str:
    """`judge.sqlite` in $MERGEFRONT_CACHE, else in the user's cache directory."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mergefront")
    return os.path.join(folder, "judge.sqlite")


class Cache:
    """One connection to the file; a context manager. Used by one thread at a time."""

    def __init__(self, file: str) -> None:
        """Open the file, made if it does not exist.

        Raises:
            Unavailable: it cannot be made, or is something else.
        """
        self.file = file
        with _told(file):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(file, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._base.close()
                raise

    def _prepare(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                # Several processes may make the file at once; changing its mode does not wait for a lock by itself.
                self._base.execute("PRAGMA journal_mode=WAL")
                self._base.execute("PRAGMA synchronous=NORMAL")
                self._base.executescript(_TABLES)
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        found = self._base.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _FORMAT):
            raise Unavailable(f"{self.file}: is a cache of another version of mergefront ({found}); name another file")
        if not found:
            self._base.execute(f"PRAGMA user_version={_FORMAT}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def verdicts(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Key -> verdict, of those that are known."""
        return self._texts("SELECT key, verdict FROM verdicts WHERE key IN", keys)

    def keep(self, key: bytes, verdict: str, *, reply: str, prompt: str, asked: str, served: str) -> str:
        """Remember a verdict; the one that stands: of two processes that asked at the same time the first wins."""
        with _told(self.file):
            row = (key, verdict, reply, prompt, asked, served, time.time())
            self._base.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            found = self._base.execute("SELECT verdict FROM verdicts WHERE key = ?", (key,)).fetchone()
        return str(found[0])

    def answers(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Key -> answer of the base, of those that are known."""
        return self._texts("SELECT key, text FROM answers WHERE key IN", keys)

    def keep_answers(self, rows: Iterable[tuple[bytes, str]]) -> None:
        """Remember answers of the base, all or none; one that is known stays."""
        with _told(self.file), self._transaction():
            self._base.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    def spend(self, account: str, more: Spent) -> None:
        """Add to what an account has spent."""
        row = (account, more.replies, more.invalid, more.tokens_in, more.tokens_out, more.money)
        added = ", ".join(f"{name} = {name} + excluded.{name}" for name in _COLUMNS)
        with _told(self.file):
            self._base.execute(
                f"INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET {added}", row
            )

    def spent(self, account: str) -> Spent:
        """What an account has spent, by all processes that use this file."""
        with _told(self.file):
            query = f"SELECT {', '.join(_COLUMNS)} FROM ledger WHERE account = ?"
            found = self._base.execute(query, (account,)).fetchone()
        return Spent(*found) if found else Spent()

    def count(self, account: str, evaluator: str, counts: Mapping[str, int]) -> None:
        """Add to the tallies of an evaluator."""
        rows = [(account, evaluator, name, count) for name, count in counts.items() if count]
        query = "INSERT INTO tallies VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
        with _told(self.file), self._transaction():
            self._base.executemany(query, rows)

    def tallies(self, account: str) -> dict[str, dict[str, int]]:
        """Evaluator -> its tallies, of an account."""
        found: dict[str, dict[str, int]] = {}
        query = "SELECT evaluator, name, count FROM tallies WHERE account = ? ORDER BY evaluator, name"
        with _told(self.file):
            for evaluator, name, count in self._base.execute(query, (account,)):
                found.setdefault(evaluator, {})[name] = count
        return found

    def _texts(self, query: str, keys: Sequence[bytes]) -> dict[bytes, str]:
        found: dict[bytes, str] = {}
        with _told(self.file):
            for first in range(0, len(keys), _CHUNK):
                some = keys[first : first + _CHUNK]
                found.update(self._base.execute(f"{query} ({','.join('?' * len(some))})", some))
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")


_COLUMNS = ("replies", "invalid", "input", "output", "money")


@contextmanager
def _told(file: str) -> Iterator[Any]:
    """What the disk or SQLite raise, as one line that names the file."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(
            f"the judges' cache {file} cannot be used: {error}; name another one (cache: FILE)"
        ) from error
