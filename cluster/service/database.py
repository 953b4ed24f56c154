"""The engine of the service's database, and its schema brought up to date."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .._errors import InputError

BUSY_S = 30
LOCK = 0x6D65726765  # "merge"; locks of a database are numbers


def shown(url: str) -> str:
    """`url` without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def open_database(url: str) -> sa.Engine:
    """An engine on an up-to-date schema.

    Raises:
        InputError: it cannot be reached, or a newer version has migrated it.
    """
    engine = _engine(url)
    try:
        _migrate(engine)
    except sa.exc.SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise InputError(f"database: {shown(url)}: cannot be opened: {cause}; name a reachable one") from None
    return engine


def claim(engine: sa.Engine) -> sa.Connection | None:
    """Hold a PostgreSQL database against a second service, as long as the connection that comes back is open.

    Two would start every job twice. SQLite needs none: the state directory that it lies in is locked.

    Raises:
        InputError: another service holds it.
    """
    if engine.dialect.name != "postgresql":
        return None
    connection = engine.connect()
    got = connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}).scalar_one()
    connection.commit()
    if not got:
        connection.close()
        raise InputError("--database: another service works with this database; stop it, or name another")
    return connection


def _engine(url: str) -> sa.Engine:
    try:
        made = sa.make_url(url)
        if made.get_backend_name() == "sqlite":
            Path(str(made.database)).parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(made, connect_args={"timeout": BUSY_S}, pool_size=20, max_overflow=40)
            sa.event.listen(engine, "connect", _pragmas)
            return engine
        if made.get_backend_name() == "postgresql":
            return sa.create_engine(
                made,
                pool_pre_ping=True,
                pool_timeout=BUSY_S,
                connect_args={"connect_timeout": 10, "options": "-c lock_timeout=30s -c statement_timeout=60s"},
            )
    except (sa.exc.ArgumentError, ValueError):
        pass
    except ImportError as error:
        raise InputError(f"database: {error}; pip install 'mergefront[postgresql]'") from None
    raise InputError(f"database: must be sqlite:///FILE or postgresql://USER@HOST/DATABASE, got {shown(url)}")


def _pragmas(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # an accepted job survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")


def _migrate(engine: sa.Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise InputError(f"database: written by a newer mergefront ({error}); update mergefront") from None
