"""One driver at a time for a study that has no run directory: the lock dies with its process."""

from __future__ import annotations

import fcntl
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from search.errors import Problem, UserError
from search.store import Store

from .database import is_memory


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Hold a study: a lock file beside a SQLite file, an advisory lock of a PostgreSQL session.

    Raises:
        UserError: another process holds it, or the place cannot be written.
    """
    if is_memory(store.url):
        yield
    elif store.url.get_backend_name() == "sqlite":
        with _file(Path(str(store.url.database))):
            yield
    else:
        with _session(store):
            yield


@contextmanager
def _file(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = path.with_name(f".{path.name}.lock").open("a+")
    except OSError as error:
        remedy = "name a file in a folder that can be written"
        raise UserError(
            Problem(str(path), None, "storage", f"cannot be written ({error.strerror})", None, remedy)
        ) from None
    with guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(str(path)) from None
        yield


@contextmanager
def _session(store: Store) -> Iterator[None]:
    store.reach()
    # A connection of its own: should it be lost, rows are still guarded by their owner.
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        key = zlib.crc32(f"mergefront:{store.url.query['schema']}".encode())
        if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar_one():
            raise _taken(str(store))
        try:
            yield
        finally:
            connection.invalidate()  # ends the session and with it the lock, also when the server is gone


def _taken(place: str) -> UserError:
    rule = "another process works on this study"
    return UserError(Problem(place, None, "storage", rule, None, "wait for it, stop it, or name another storage"))
