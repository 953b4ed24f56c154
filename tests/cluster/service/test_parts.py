"""The parts of the service that need no process: order of the queue, tokens, links, logs, archives, the schema."""

from __future__ import annotations

import asyncio
import io
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from anyio import CapacityLimiter
from fastapi import Response
from hypothesis import given
from hypothesis import strategies as st

from cluster._errors import InputError
from cluster.service import archive, store, tokens
from cluster.service.database import open_database, shown
from cluster.service.guard import _name
from cluster.service.jobs import Job, next_jobs
from cluster.service.logs import LINE, last_line, whole_lines
from cluster.service.looks import SHARED_S, Look, Looks
from cluster.service.routes import operate
from cluster.service.routes.exports import _pieces as pieces
from cluster.service.tables import METADATA, TOKENS
from cluster.service.tickets import Tickets


def job(number: int, priority: int = 0, cpus: float = 1.0, gpus: float = 0.0, not_before: float = 0.0) -> Job:
    names = {"id": f"{number:012x}", "number": number, "owner": "a", "name": "n", "recipe": "", "directory": ""}
    rest = {"digest": "", "idempotency": None, "candidates": 1, "state": "QUEUED", "reason": "", "attempt": 0}
    times = {"progress": {}, "created": 0.0, "started": None, "finished": None}
    return Job(**names, **rest, **times, priority=priority, cpus=cpus, gpus=gpus, not_before=not_before)  # type: ignore[arg-type]


def started(
    queued: list[Job], held: list[tuple[float, float]], total: tuple[float, float], slots: int = 9
) -> list[int]:
    return [one.number for one in next_jobs(queued, held, total, slots, now=100.0)]


def test_priority_then_age() -> None:
    assert started([job(3, 1), job(1), job(2)], [], (2, 0)) == [3, 1]


def test_a_job_that_does_not_fit_holds_back_those_behind_it() -> None:
    assert started([job(1, cpus=4), job(2)], [(1.0, 0.0)], (4, 0)) == []
    assert started([job(1, gpus=1), job(2)], [(0.0, 1.0)], (4, 1)) == []
    assert started([job(1), job(2, cpus=4), job(3)], [], (4, 0)) == [1]


def test_a_job_larger_than_the_cluster_holds_nobody_back() -> None:
    assert started([job(1, 9, cpus=5), job(2, gpus=1), job(3)], [], (4, 0)) == [3]


def test_a_job_in_its_pause_holds_nobody_back() -> None:
    assert started([job(1, 9, cpus=4, not_before=101.0), job(2)], [], (4, 0)) == [2]


def test_slots_bound_the_number_of_jobs() -> None:
    assert started([job(1), job(2), job(3)], [], (9, 9), slots=2) == [1, 2]


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.floats(0.1, 4), st.sampled_from([0.0, 0.5, 1.0])), max_size=12),
    st.lists(st.tuples(st.floats(0, 2), st.sampled_from([0.0, 1.0])), max_size=3),
)
def test_what_is_started_fits_and_nothing_overtakes(
    wanted: list[tuple[int, float, float]], held: list[tuple[float, float]]
) -> None:
    queued = [job(n, p, c, g) for n, (p, c, g) in enumerate(wanted, start=1)]
    chosen = next_jobs(queued, held, (6.0, 2.0), 5, now=0.0)
    for index, room in ((0, 6.0), (1, 2.0)):
        taken = sum((one.cpus, one.gpus)[index] for one in chosen)
        assert taken == 0 or taken + sum(row[index] for row in held) <= room + 1e-6
    order = sorted(queued, key=lambda one: (-one.priority, one.number))
    fitting = [one for one in order if one.cpus <= 6.0 and one.gpus <= 2.0]
    assert list(chosen) == fitting[: len(chosen)]


def test_tokens_are_kept_as_hashes_and_end(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    which, token = tokens.add_token(engine, "ada", ("read", "submit"))
    with engine.connect() as connection:
        assert token not in str(connection.execute(sa.select(TOKENS)).all())
    assert token.encode() not in (tmp_path / "a.db").read_bytes() + (tmp_path / "a.db-wal").read_bytes()
    caller = tokens.caller_of(engine, token)
    assert isinstance(caller, tokens.Caller)
    assert (caller.sees, caller.may("submit"), caller.may("metrics")) == ("ada", True, False)
    assert tokens.caller_of(engine, token[:-1]) == "unknown token"
    tokens.revoke(engine, which)
    assert tokens.caller_of(engine, token) == "this token was revoked"
    with pytest.raises(InputError, match="no token in force has this id"):
        tokens.revoke(engine, which)
    _, short = tokens.add_token(engine, "bo", ("read",), days=1e-9)
    time.sleep(0.001)
    assert tokens.caller_of(engine, short) == "this token has expired"
    for owner, scopes, says in (("a b", ("read",), "owner: "), ("a", ("write",), "got write"), ("a", (), "got none")):
        with pytest.raises(InputError, match=says):
            tokens.add_token(engine, owner, scopes)


def test_a_link_is_good_for_one_checkpoint_and_one_service() -> None:
    made = Tickets()
    ticket = made.make("0123456789ab", "knee")
    assert made.good(ticket, "0123456789ab", "knee")
    assert not made.good(ticket, "0123456789ab", "safest")
    assert not made.good(ticket, "0123456789ac", "knee")
    assert not Tickets().good(ticket, "0123456789ab", "knee")
    until, _, signature = ticket.partition(".")
    for bad in ("", ".", f"{int(until) + 1}.{signature}", f"{until}.", f"²{until}.{signature}", "\udcff.x"):
        assert not made.good(bad, "0123456789ab", "knee")


def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    open_database(f"sqlite:///{tmp_path / 'a.db'}")  # again: nothing to do


def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be sqlite:///FILE or postgresql://.*, got mysql://u:\*\*\*@h/d"):
        open_database("mysql://u:secret@h/d")
    (tmp_path / "a.db").write_bytes(b"not a database at all, but long enough to look at" * 50)
    with pytest.raises(InputError, match=r"a\.db: cannot be opened"):
        open_database(f"sqlite:///{tmp_path / 'a.db'}")
    engine = open_database(f"sqlite:///{tmp_path / 'b.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match="written by a newer mergefront"):
        open_database(f"sqlite:///{tmp_path / 'b.db'}")
    assert shown("postgresql://me:secret@h/d") == "postgresql://me:***@h/d"


def test_a_state_is_left_only_once(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    values = {"id": "a" * 12, "owner": "a", "name": "n", "recipe": "r", "directory": "/", "digest": "d"}
    values2 = {"idempotency": "k", "priority": 0, "cpus": 1.0, "gpus": 0.0, "candidates": 1}
    made = store.add_job(engine, {**values, **values2})
    assert store.change(engine, made, "STARTING", attempt=1)
    assert not store.ask_cancel(engine, made)  # it was QUEUED when we looked
    with pytest.raises(store.KeyTaken) as taken:
        store.add_job(engine, {**values, **values2, "id": "b" * 12})
    assert taken.value.job.id == "a" * 12
    assert [event.state for event in store.events(engine, made.id)] == ["QUEUED", "STARTING"]


def test_the_log_is_read_by_whole_lines_from_any_place(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert list(whole_lines(log, 0, rest=True)) == []
    log.write_bytes("één\r\ntwo\nhal".encode() + b"\xff")
    lines = list(whole_lines(log, 0, rest=False))
    assert [line for _, line in lines] == ["één", "two"]
    assert list(whole_lines(log, lines[0][0], rest=True)) == [(11, "two"), (15, "hal�")]
    assert list(whole_lines(log, 2**53, rest=True)) == []
    log.write_bytes(b"x" * (LINE + 5))
    assert [len(line) for _, line in whole_lines(log, 0, rest=False)] == [LINE]


def test_what_a_failed_run_said_last(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_text("search: 3\nmergefront: the base is gone\nmergefront: what ran is kept; again\n")
    assert last_line(log) == "the base is gone"


def test_an_archive_has_the_length_that_was_told(tmp_path: Path) -> None:
    folder = tmp_path / "knee"
    (folder / "deep").mkdir(parents=True)
    contents = {"a.json": b"{}", "deep/b.bin": b"x" * 1500, "empty": b"", "ü" * 60: b"long name"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "link").symlink_to("/etc/passwd")
    files = archive.entries(folder, "knee")
    data = b"".join(archive.stream(files))
    assert len(data) == archive.length(files)
    with tarfile.open(fileobj=io.BytesIO(data)) as unpacked:
        found = {entry.name: unpacked.extractfile(entry).read() for entry in unpacked}  # type: ignore[union-attr]
    assert found == {f"knee/{name}": content for name, content in contents.items()}
    (folder / "deep/b.bin").write_bytes(b"short")
    with pytest.raises(OSError, match="shorter than it was"):
        b"".join(archive.stream(files))


def test_a_download_is_the_whole_archive(tmp_path: Path) -> None:
    folder = tmp_path / "knee"
    folder.mkdir()
    for name, size in {"a.bin": 512, "b.bin": 0, "c.bin": 3 * archive.CHUNK + 1}.items():
        (folder / name).write_bytes(b"x" * size)
    files = archive.entries(folder, "knee")

    async def download() -> bytes:
        service: Any = SimpleNamespace(downloads=CapacityLimiter(1))
        return b"".join([piece async for piece in pieces(service, files)])

    assert asyncio.run(download()) == b"".join(archive.stream(files))


def test_health_does_not_wait_for_a_database_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operate, "ANSWER_S", 0.2)
    silent, response = threading.Event(), Response()
    supervisor = SimpleNamespace(begun=time.monotonic(), reached=True)
    engine = SimpleNamespace(connect=lambda: silent.wait(20))
    service: Any = SimpleNamespace(engine=engine, supervisor=supervisor, pulse=CapacityLimiter(1))

    async def twice() -> list[str]:
        try:
            found = [await operate.health(service, response), await operate.health(service, response)]
        finally:
            silent.set()
        return [one.status for one in found]

    began = time.monotonic()
    assert asyncio.run(twice()) == ["failing", "failing"]
    assert response.status_code == 503
    assert time.monotonic() - began < 10


def test_streams_at_one_place_share_a_look_and_outlive_each_other(tmp_path: Path) -> None:
    settings: Any = SimpleNamespace(job=lambda name: tmp_path / name)
    (tmp_path / "one").mkdir()
    log = tmp_path / "one" / "log.txt"
    log.write_text("first\nsecond\nunfinished")
    asked: list[str] = []

    def state_of(name: str) -> Job:
        asked.append(name)
        time.sleep(0.05)
        return job(1)

    looks = Looks(settings, cast(Any, SimpleNamespace(look=state_of)))

    async def follow() -> tuple[Look, ...]:
        first = asyncio.create_task(looks.at("one", 0, True))
        await asyncio.sleep(0)
        others = [asyncio.create_task(looks.at("one", 0, True)) for _ in range(20)]
        await asyncio.sleep(0.01)
        first.cancel()
        found = await asyncio.gather(*others)
        await asyncio.sleep(SHARED_S)
        with log.open("a") as file:
            file.write(" no more\n")
        return (*found, await looks.at("one", found[0].end, True), await looks.at("one", 0, False))

    *shared, later, whole = asyncio.run(follow())
    assert {look.events for look in shared} == {b'id: 6\ndata: "first"\n\nid: 13\ndata: "second"\n\n'}
    assert later.events == b'id: 32\ndata: "unfinished no more"\n\n'
    assert whole.events == shared[0].events + later.events
    assert len(asked) == 3


@pytest.mark.parametrize(("url", "name"), [("//[::1]:80", "::1"), ("//LOCALHOST:1", "localhost"), ("//[", "")])
def test_host_names(url: str, name: str) -> None:
    assert _name(url) == name
