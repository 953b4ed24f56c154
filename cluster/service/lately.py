"""What was looked up lately, and is good for another second: tokens, and which jobs have ended."""

from __future__ import annotations

import time

import sqlalchemy as sa
from anyio import to_thread

from . import store
from .jobs import ENDED, Job
from .tokens import Caller, caller_of

TRUSTED_S = 1.0
"""How long a token that was looked up is good without another look: a revoked one ends within this time."""


class Callers:
    """Tokens seen lately; a hundred clients ask a few times a second each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, Caller | str]] = {}

    async def of(self, token: str) -> Caller | str:
        """`tokens.caller_of`, at most `TRUSTED_S` old; a thread is waited for only where the database is asked."""
        now = time.monotonic()
        found = self._known.get(token)
        if found is not None and now - found[0] < TRUSTED_S:
            return found[1]
        caller = await to_thread.run_sync(caller_of, self._engine, token)
        if len(self._known) > 10_000:
            self._known.clear()  # somebody is guessing
        self._known[token] = now, caller
        return caller


class Endings:
    """Which jobs have ended; one look a second for each job, however many streams follow it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, Job]] = {}

    def look(self, job: str) -> Job:
        """The job, at most a second old."""
        now = time.monotonic()
        found = self._known.get(job)
        if found is not None and (now - found[0] < 1.0 or found[1].state in ENDED):
            return found[1]
        row = store.job_by_id(self._engine, job, None)
        assert row is not None, "jobs are never removed"
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[job] = now, row
        return row
