"""Bearer tokens: made once, shown once, kept as hashes.

A token is 256 random bits, so a plain SHA-256 at rest is enough: there is nothing to guess, and no salt to look up.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .._errors import InputError
from .tables import TOKENS

SCOPES = ("read", "submit", "metrics", "admin")
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
_PREFIX = "mf_"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        owner: whose jobs it sees; `admin` sees everybody's.
        scopes: `read` jobs, fronts, logs and exports; `submit` and cancel; `metrics`; `admin` for all of it.
    """

    owner: str
    scopes: tuple[str, ...]

    def may(self, scope: str) -> bool:
        """Whether this caller has a scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def sees(self) -> str | None:
        """The owner whose jobs it sees; None = all."""
        return None if "admin" in self.scopes else self.owner


ANYONE = Caller("anyone", ("admin",))
"""The caller where authentication is off."""


def add_token(engine: sa.Engine, owner: str, scopes: Sequence[str], days: float | None = None) -> tuple[str, str]:
    """Make a token.

    Args:
        engine: of the service's database.
        owner: whose jobs it may see; several tokens may share one.
        scopes: of `SCOPES`.
        days: until it expires; None = never.

    Returns:
        Its id, and the token itself: kept nowhere.

    Raises:
        InputError: an unknown scope or an owner that is no name.
    """
    if not _OWNER.fullmatch(owner):
        raise InputError(f"owner: at most 64 letters, digits, . _ @ -, got {owner!r}")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InputError(f"scope: must be among {', '.join(SCOPES)}, got {', '.join(unknown) or 'none'}")
    if days is not None and not days > 0:
        raise InputError(f"days: must be above 0, got {days:g}")
    token, now = _PREFIX + secrets.token_urlsafe(32), time.time()
    row = {
        "id": secrets.token_hex(4),
        "owner": owner,
        "hash": _hash(token),
        "scopes": " ".join(dict.fromkeys(scopes)),
        "created": now,
        "expires": None if days is None else now + days * 86400,
    }
    with engine.begin() as connection:
        connection.execute(sa.insert(TOKENS).values(**row))
    return str(row["id"]), token


def caller_of(engine: sa.Engine, token: str) -> Caller | str:
    """Who a token stands for, or why it stands for nobody."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(TOKENS).where(TOKENS.c.hash == _hash(token))).first()
    if row is None:
        return "unknown token"
    if row.revoked is not None:
        return "this token was revoked"
    if row.expires is not None and row.expires <= time.time():
        return "this token has expired"
    return Caller(row.owner, tuple(row.scopes.split()))


def revoke(engine: sa.Engine, which: str) -> None:
    """End a token, by its id.

    Raises:
        InputError: there is none of that id.
    """
    with engine.begin() as connection:
        row = sa.update(TOKENS).where(TOKENS.c.id == which, TOKENS.c.revoked.is_(None))
        if connection.execute(row.values(revoked=time.time())).rowcount == 0:
            raise InputError(f"token {which}: no token in force has this id; `mergefront token list` shows them")


def listed(engine: sa.Engine) -> Sequence[Any]:
    """Every token without its hash, oldest first."""
    columns = (TOKENS.c.id, TOKENS.c.owner, TOKENS.c.scopes, TOKENS.c.created, TOKENS.c.expires, TOKENS.c.revoked)
    with engine.connect() as connection:
        return connection.execute(sa.select(*columns).order_by(TOKENS.c.created)).all()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
