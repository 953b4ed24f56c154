"""Where a study's rows live: a SQLite file, memory, or a schema of a PostgreSQL database; and lost connections."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from search.errors import Problem, UserError

PATIENCE_S = 60.0
"""How long a lost database is tried again before the work that needs it fails."""

MEMORY = "sqlite://"
DEFAULT_SCHEMA = "mergefront"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_SQLITE_PASSES = ("locked", "busy", "disk i/o", "unable to open", "disk is full")
# Connection lost, administrator's shutdown, no resources, deadlock or serialization, lock not available.
_SQLSTATES_PASS = ("08", "57P", "53", "40", "55P03")
_POSTGRESQL: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c lock_timeout=60s -c statement_timeout=120s -c idle_in_transaction_session_timeout=300s",
}

T = TypeVar("T")


class DatabaseLost(RuntimeError):
    """The database did not come back in time; everything that it confirmed is kept."""


def url_of(place: str | Path) -> sa.URL:
    """The database that `place` names.

    Args:
        place: a file (a path), or a URL: sqlite:///FILE, or postgresql://USER@HOST/DATABASE with an optional
            ?schema=NAME (default "mergefront"); one schema holds one study.

    Raises:
        UserError: no such kind of database.
    """
    if isinstance(place, Path) or "://" not in place:
        return sa.URL.create("sqlite", database=str(place))
    try:
        url = sa.make_url(place)
    except (sa.exc.ArgumentError, ValueError):  # a port that is no number
        rule, remedy = "is no database URL", "write postgresql://USER@HOST/DATABASE"
        raise UserError(Problem("", None, "database", rule, _hidden(place), remedy)) from None
    kind = url.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        rule = "must be SQLite or PostgreSQL"
        raise UserError(Problem("", None, "database", rule, kind, "write postgresql://USER@HOST/DATABASE"))
    if kind == "postgresql":
        schema = url.query.get("schema", DEFAULT_SCHEMA)
        if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
            rule = "schema: at most 63 of a-z, 0-9 and _, not starting with a digit"
            raise UserError(Problem("", None, "database", rule, str(schema), "write ?schema=my_study"))
        url = url.set(drivername="postgresql+psycopg").update_query_dict({"schema": schema})
    return url


def is_memory(url: sa.URL) -> bool:
    """Whether the rows end with the process."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def shown(url: sa.URL) -> str:
    """The database as a message names it, without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or "memory"
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def connect(url: sa.URL) -> sa.Engine:
    """An engine for `url_of(place)`; nothing is opened before the first statement.

    Raises:
        UserError: PostgreSQL without its driver.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    schema = url.query["schema"]
    try:
        engine = sa.create_engine(
            url.difference_update_query(["schema"]), pool_pre_ping=True, connect_args=dict(_POSTGRESQL)
        )
    except ImportError as error:
        rule, remedy = f"PostgreSQL needs psycopg ({error})", "pip install 'mergefront[postgresql]'"
        raise UserError(Problem("", None, "database", rule, remedy=remedy)) from None
    return engine.execution_options(schema_translate_map={None: schema})


def _sqlite(url: sa.URL) -> sa.Engine:
    if is_memory(url):
        # One connection, whatever thread asks: a second one would be another, empty database.
        return sa.create_engine(url, poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    engine = sa.create_engine(url, connect_args={"timeout": 60.0})

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # with WAL: safe against kill -9, not a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def reach(engine: sa.Engine, url: sa.URL, tables: Collection[str]) -> None:
    """Ask the database for its tables, once: a wrong password is not worth a minute's patience.

    Args:
        engine: made by `connect`.
        url: of the database.
        tables: names of ours; a database that holds others and none of these belongs to something else.

    Raises:
        UserError: it cannot be reached, the file is no database, or it is somebody else's. Nothing was written.
    """
    try:
        found = _sqlite_tables(url) if url.get_backend_name() == "sqlite" else _postgresql_tables(engine, url)
        if not found & set(tables) and found:
            rule = f"holds something else (a table {min(found)!r})"
            remedy = "name another file" if url.get_backend_name() == "sqlite" else "name another schema: ?schema=NAME"
            raise UserError(Problem(shown(url), None, "", rule, None, remedy))
        if url.get_backend_name() == "postgresql":
            with engine.begin() as connection:
                connection.execute(sa.schema.CreateSchema(str(url.query["schema"]), if_not_exists=True))
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        cause = _cause(error) if isinstance(error, sa.exc.DBAPIError) else error
        raise UserError(Problem(shown(url), None, "", f"the database cannot be opened: {cause}")) from None


def _sqlite_tables(url: sa.URL) -> set[str]:
    """Tables of a file, asked without the settings that would change it."""
    if is_memory(url) or not Path(str(url.database)).exists():
        return set()
    with closing(sqlite3.connect(str(url.database), timeout=60.0)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _postgresql_tables(engine: sa.Engine, url: sa.URL) -> set[str]:
    with engine.connect() as connection:
        return set(sa.inspect(connection).get_table_names(schema=str(url.query["schema"])))


def retried(work: Callable[[], T], what: sa.URL, patience_s: float) -> T:
    """`work()`, again after a pause while the connection is lost; `work` must do the same whether or not it was done.

    Raises:
        DatabaseLost: it did not come back within `patience_s`.
    """
    deadline: float | None = None
    attempt = 0
    while True:
        try:
            return work()
        except sa.exc.DBAPIError as error:
            if not passes(error) or is_memory(what):
                raise
            now = time.monotonic()
            deadline = now + patience_s if deadline is None else deadline
            pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            attempt += 1
            if now + pause > deadline:
                raise DatabaseLost(
                    f"{shown(what)} did not answer for {patience_s:g} s ({attempt} tries): {_cause(error)}"
                ) from None
            time.sleep(pause)


def passes(error: sa.exc.DBAPIError) -> bool:
    """Whether trying again may help: a lost connection, a lock; not a wrong statement."""
    if error.connection_invalidated:
        return True
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_SQLSTATES_PASS)
    text = str(error.orig).lower()
    return "sqlite3" not in type(error.orig).__module__ or any(word in text for word in _SQLITE_PASSES)


def _cause(error: sa.exc.DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:300]


def _hidden(text: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", text)
