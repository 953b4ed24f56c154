"""Reading and changing rows: every change is one short transaction that names the state it expects."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from .jobs import CANCELLING, ENDED, QUEUED, Event, Export, Job, job_of
from .tables import EVENTS, EXPORTS, JOBS


class KeyTaken(Exception):
    """The idempotency key belongs to an earlier job of this owner; `job` is that one."""

    def __init__(self, job: Job):
        self.job = job
        super().__init__(job)


def add_job(engine: sa.Engine, values: Mapping[str, Any]) -> Job:
    """Enter a job, QUEUED.

    Args:
        engine: of the service's database.
        values: owner, name, recipe, directory, digest, idempotency, priority, cpus, gpus, candidates, and its id.

    Raises:
        KeyTaken: the owner has a job with this idempotency key.
    """
    now = time.time()
    start = {"state": QUEUED, "reason": "", "attempt": 0, "not_before": 0.0, "progress": "{}", "created": now}
    while True:
        try:
            with engine.begin() as connection:
                known = _by_key(connection, values["owner"], values["idempotency"])
                if known is not None:
                    raise KeyTaken(known)
                number = connection.execute(sa.select(sa.func.coalesce(sa.func.max(JOBS.c.number), 0))).scalar_one() + 1
                connection.execute(sa.insert(JOBS).values(number=number, **values, **start))
                _note(connection, values["id"], QUEUED, "")
            return job_by_id(engine, values["id"], None)  # type: ignore[return-value]  # it was entered just now
        except sa.exc.IntegrityError:
            continue  # somebody took the number or the key in between: look again


def by_key(engine: sa.Engine, owner: str, key: str | None) -> Job | None:
    """The owner's job with an idempotency key."""
    with engine.connect() as connection:
        return _by_key(connection, owner, key)


def _by_key(connection: sa.Connection, owner: str, key: str | None) -> Job | None:
    if key is None:
        return None
    query = sa.select(JOBS).where(JOBS.c.owner == owner, JOBS.c.idempotency == key)
    row = connection.execute(query).mappings().first()
    return None if row is None else job_of(dict(row))


def new_id() -> str:
    """An id that no job has had."""
    return secrets.token_hex(6)


def jobs(
    engine: sa.Engine,
    owner: str | None = None,
    states: Sequence[str] = (),
    limit: int | None = None,
    before: int | None = None,
) -> tuple[Job, ...]:
    """Jobs, newest first; of one owner, in some states, older than number `before`, if given."""
    query = sa.select(JOBS).order_by(JOBS.c.number.desc())
    if owner is not None:
        query = query.where(JOBS.c.owner == owner)
    if states:
        query = query.where(JOBS.c.state.in_(states))
    if before is not None:
        query = query.where(JOBS.c.number < before)
    if limit is not None:
        query = query.limit(limit)
    with engine.connect() as connection:
        return tuple(job_of(dict(row)) for row in connection.execute(query).mappings())


def job_by_id(engine: sa.Engine, job: str, owner: str | None) -> Job | None:
    """One job; None if there is none, or it is another owner's."""
    query = sa.select(JOBS).where(JOBS.c.id == job)
    if owner is not None:
        query = query.where(JOBS.c.owner == owner)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else job_of(dict(row))


def counts(engine: sa.Engine) -> dict[str, int]:
    """State -> number of jobs."""
    query = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def open_jobs(engine: sa.Engine, owner: str) -> int:
    """How many jobs of an owner have not ended."""
    query = sa.select(sa.func.count()).where(JOBS.c.owner == owner, JOBS.c.state.not_in(ENDED))
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def change(engine: sa.Engine, job: Job, state: str, reason: str = "", **values: Any) -> bool:
    """Move a job on from the state and attempt that `job` holds; False if it has moved already."""
    where = (JOBS.c.id == job.id, JOBS.c.state == job.state, JOBS.c.attempt == job.attempt)
    if state in ENDED:
        values["finished"] = time.time()
    with engine.begin() as connection:
        moved = connection.execute(sa.update(JOBS).where(*where).values(state=state, reason=reason, **values))
        if moved.rowcount:
            _note(connection, job.id, state, reason)
        return bool(moved.rowcount)


def explain(engine: sa.Engine, job: Job, reason: str) -> None:
    """Say why a job waits, without an event of its own."""
    if reason == job.reason:
        return
    with engine.begin() as connection:
        where = (JOBS.c.id == job.id, JOBS.c.state == job.state)
        connection.execute(sa.update(JOBS).where(*where).values(reason=reason))


def keep_progress(engine: sa.Engine, job: Job, progress: Mapping[str, Any]) -> None:
    """Note how far a job has come."""
    with engine.begin() as connection:
        connection.execute(sa.update(JOBS).where(JOBS.c.id == job.id).values(progress=json.dumps(progress)))


def events(engine: sa.Engine, job: str) -> tuple[Event, ...]:
    """All changes of a job's state, oldest first."""
    query = sa.select(EVENTS.c.at, EVENTS.c.state, EVENTS.c.reason).where(EVENTS.c.job == job).order_by(EVENTS.c.number)
    with engine.connect() as connection:
        return tuple(Event(*row) for row in connection.execute(query))


def ask_cancel(engine: sa.Engine, job: Job) -> bool:
    """QUEUED jobs end at once, others when Ray has stopped them; False if it has moved in between."""
    if job.state == QUEUED:
        return change(engine, job, "CANCELLED", "cancelled before it was started")
    return change(engine, job, CANCELLING, "cancellation was asked for")


def add_export(engine: sa.Engine, job: str, point: str) -> Export:
    """Ask for the checkpoint of a point; what FAILED is tried again, what is there or under way stays."""
    now = time.time()
    first = {"job": job, "point": point, "state": QUEUED, "reason": "", "attempt": 1, "created": now}
    try:
        with engine.begin() as connection:
            again = {"state": QUEUED, "reason": "", "attempt": EXPORTS.c.attempt + 1, "finished": None}
            this = (EXPORTS.c.job == job, EXPORTS.c.point == point)
            connection.execute(sa.update(EXPORTS).where(*this, EXPORTS.c.state == "FAILED").values(**again))
            if connection.execute(sa.select(EXPORTS.c.job).where(*this)).first() is None:
                connection.execute(sa.insert(EXPORTS).values(**first))
    except sa.exc.IntegrityError:
        pass  # two asked at once: one row serves both
    return next(row for row in exports(engine, job) if row.point == point)


def exports(engine: sa.Engine, job: str | None = None, states: Sequence[str] = ()) -> tuple[Export, ...]:
    """Exports that were asked for, oldest first."""
    query = sa.select(EXPORTS).order_by(EXPORTS.c.created)
    if job is not None:
        query = query.where(EXPORTS.c.job == job)
    if states:
        query = query.where(EXPORTS.c.state.in_(states))
    with engine.connect() as connection:
        return tuple(Export(**row) for row in connection.execute(query).mappings())


def change_export(engine: sa.Engine, export: Export, state: str, reason: str = "", **values: Any) -> bool:
    """Move an export on from the state that `export` holds."""
    if state in ENDED:
        values["finished"] = time.time()
    where = (EXPORTS.c.job == export.job, EXPORTS.c.point == export.point, EXPORTS.c.state == export.state)
    with engine.begin() as connection:
        moved = connection.execute(sa.update(EXPORTS).where(*where).values(state=state, reason=reason, **values))
        return bool(moved.rowcount)


def _note(connection: sa.Connection, job: str, state: str, reason: str) -> None:
    connection.execute(sa.insert(EVENTS).values(job=job, at=time.time(), state=state, reason=reason))
