"""A directory in a bucket: published whole or not at all, restored elsewhere, never written by two."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster._errors import InputError
from cluster.storage import manifest as manifests
from cluster.storage.bucket import Bucket, StorageLost
from cluster.storage.layout import Layout
from cluster.storage.lease import LeaseLost
from cluster.storage.manifest import Manifest
from cluster.storage.publish import KEPT
from cluster.storage.restore import Damaged
from cluster.storage.urls import parse
from cluster.storage.working import Pace, reading, working

from .s3 import server

LAYOUT = Layout(database="study.db", left_out=("scratch",), hidden=(".place",))
FAST = Pace(publish=0.05, renew=0.2, expire=2.0)
SLOW = Pace(publish=3600.0, renew=0.2, expire=2.0)
FILES = 3
LIMIT_S = 120.0


def quiet(_line: str) -> None:
    pass


def write_generation(folder: Path, number: int) -> None:
    """A new state: its files, then the row that speaks of them. As in a run, what a row speaks of is never removed."""
    for index in range(FILES):
        partial = folder / f".{index}.part"
        partial.write_text(f"{number} " * 2000)
        (folder / "items").mkdir(exist_ok=True)
        partial.replace(folder / "items" / f"{index}-{number}")
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE IF NOT EXISTS state (number INTEGER)")
        connection.execute("DELETE FROM state")
        connection.execute("INSERT INTO state VALUES (?)", (number,))
        connection.commit()


def generation(folder: Path) -> int:
    """The number that a state's database names; every file that it speaks of must be there and whole."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not connection.execute("SELECT name FROM sqlite_master").fetchall():
            return 0  # of the moment in which the database was made
        ((number,),) = connection.execute("SELECT number FROM state")
    for index in range(FILES if number else 0):
        assert (folder / "items" / f"{index}-{number}").read_text() == f"{number} " * 2000
    return int(number)


@contextmanager
def elsewhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another machine: another cache."""
    before = os.environ["MERGEFRONT_CACHE"]
    monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path / name))
    yield
    monkeypatch.setenv("MERGEFRONT_CACHE", before)


def test_work_goes_on_elsewhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working(url, LAYOUT, quiet) as copy:
        assert copy.state.number == 0
        assert Bucket(parse(url)).names("") == [], "nothing is written before `writing`"
        with copy.writing(quiet, SLOW):
            write_generation(copy.folder, 1)
            (copy.folder / "scratch").mkdir()
            (copy.folder / "scratch" / "large").write_text("x")
            (copy.folder / ".unfinished").write_text("x")
            (copy.folder / ".place").write_text("kept")
    with elsewhere("second", tmp_path, monkeypatch), working(url, LAYOUT, quiet) as copy:
        assert generation(copy.folder) == 1
        assert (copy.folder / ".place").read_text() == "kept"
        assert not (copy.folder / "scratch").exists()
        assert not (copy.folder / ".unfinished").exists()
        with copy.writing(quiet, SLOW):
            write_generation(copy.folder, 2)
    with elsewhere("third", tmp_path, monkeypatch), reading(url, LAYOUT) as folder:
        assert generation(folder) == 2
    # The first machine again: its copy is older, and clean.
    with working(url, LAYOUT, quiet) as copy:
        assert generation(copy.folder) == 2


def test_contents_are_sent_once_and_old_ones_removed(url: str) -> None:
    bucket = Bucket(parse(url))

    def made(name: str) -> object:
        info = bucket._fs.info(bucket._at(name))
        return info.get("LastModified", info.get("mtime"))

    with working(url, LAYOUT, quiet) as copy, copy.writing(quiet, SLOW):
        weights = copy.folder / "experts" / "abc" / "model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(os.urandom(100_000))
        (copy.folder / "experts" / "abc" / "twin.safetensors").write_bytes(weights.read_bytes())
        copy.publish()
        first = copy.state
        stored = {name: made(name) for name in bucket.names("objects")}
        assert len(stored) == 1, "equal contents are one object"
        for number in range(1, KEPT + 3):
            (copy.folder / "log").write_text(str(number))
            copy.publish()
        copy.publish()  # nothing new
        assert copy.state.number == first.number + KEPT + 2
    assert len(manifests.numbers(bucket)) == KEPT
    assert len(bucket.names("objects")) == 1 + KEPT, "objects of removed states are removed"
    (kept,) = stored
    assert made(kept) == stored[kept], "sent again"


KILLED = """
import sys, time
from cluster.storage.working import working
from tests.cluster.storage.test_working import FAST, LAYOUT, generation, quiet, write_generation
with working(sys.argv[1], LAYOUT, quiet) as copy, copy.writing(quiet, FAST):
    number = generation(copy.folder) if (copy.folder / "study.db").exists() else 0
    while True:
        number += 1
        write_generation(copy.folder, number)
        print(number, flush=True)
        time.sleep(0.05)
"""


def kill_in_the_middle(url: str, cache: Path, seconds: float, *, published: bool = True) -> None:
    """Kill a writer some time after it has worked, and by default published, for a while."""
    bucket = Bucket(parse(url))
    before = manifests.newest(bucket).number
    environment = {**os.environ, "MERGEFRONT_CACHE": str(cache)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline(), "ended before it could be killed"
        deadline = time.monotonic() + LIMIT_S
        while published and manifests.newest(bucket).number < before + 2:
            assert time.monotonic() < deadline, f"published nothing within {LIMIT_S} s"
            time.sleep(0.05)
        time.sleep(seconds)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        process.stdout.close()  # type: ignore[union-attr]


def survive(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int) -> None:
    draw, reached = random.Random(0), 0
    for kill in range(kills):
        kill_in_the_middle(url, tmp_path / f"machine-{kill % 2}", draw.uniform(0.0, 1.0))
        with elsewhere(f"reader-{kill}", tmp_path, monkeypatch), reading(url, LAYOUT) as folder:
            found = generation(folder)
        assert found >= reached, "a published state was lost"
        reached = found
    assert reached > 0
    # What interrupted publications left behind goes when the next writer begins.
    with elsewhere("last", tmp_path, monkeypatch), working(url, LAYOUT, quiet) as copy, copy.writing(quiet, SLOW):
        pass
    bucket = Bucket(parse(url))
    named = {e.object for n in manifests.numbers(bucket) for e in manifests.read(bucket, n).files.values()}
    assert set(bucket.names("objects")) == named


def test_kill_9_leaves_the_old_state_or_the_new(at_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survive(at_file, tmp_path, monkeypatch, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_kills(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    survive(url, tmp_path, monkeypatch, 8)


def test_readers_see_whole_states_while_it_is_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working(url, LAYOUT, quiet) as copy, copy.writing(quiet, SLOW):
        done = threading.Event()

        def write() -> None:
            number = 1
            while not done.is_set():
                write_generation(copy.folder, number)
                copy.publish()
                number += 1
                time.sleep(0.01)

        write_generation(copy.folder, 0)
        copy.publish()
        writer = threading.Thread(target=write)
        writer.start()
        seen: list[int] = []
        try:
            while len(seen) < 4 or (seen[-1] < 3 and len(seen) < 2000):
                monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path / f"reader-{len(seen) % 2}"))
                with reading(url, LAYOUT) as folder:
                    seen.append(generation(folder))
        finally:
            done.set()
            writer.join()
    assert seen == sorted(seen)
    assert seen[-1] >= 3


def test_a_second_writer_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working(url, LAYOUT, quiet) as copy, copy.writing(quiet, Pace(publish=3600, renew=0.2, expire=60)):
        with elsewhere("second", tmp_path, monkeypatch), working(url, LAYOUT, quiet) as other:
            second = other.writing(quiet, Pace(publish=3600, renew=0.2, expire=60))
            with pytest.raises(InputError, match="another mergefront process works on this run"):
                second.__enter__()
        write_generation(copy.folder, 1)
    with reading(url, LAYOUT) as folder:
        assert generation(folder) == 1


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "nohup"])
def test_a_writer_that_lost_its_lease_ends_and_publishes_nothing(url: str, ctrl_c: Any) -> None:
    bucket = Bucket(parse(url))
    went_on = False

    def work() -> None:
        nonlocal went_on
        with working(url, LAYOUT, quiet) as copy, copy.writing(quiet, SLOW):
            write_generation(copy.folder, 1)
            bucket.create("lease/0000000009.json", json.dumps({"owner": "another"}).encode())
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                time.sleep(0.05)
            went_on = True

    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        with pytest.raises(LeaseLost):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not went_on, "the work is interrupted, as by Ctrl-C"
    assert manifests.numbers(bucket) == []


def test_a_state_that_another_published_is_never_overwritten(url: str) -> None:
    bucket = Bucket(parse(url))

    def work() -> None:
        with working(url, LAYOUT, quiet) as copy, copy.writing(quiet, SLOW):
            write_generation(copy.folder, 1)
            assert bucket.create("manifests/0000000001.json", Manifest(1, "another", {}).to_bytes())

    with pytest.raises(LeaseLost, match="published after ours"):
        work()
    assert manifests.newest(bucket).writer == "another"


@pytest.mark.slow
def test_an_outage_at_the_end_keeps_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path / "cache"))
    with server(tmp_path / "log") as here:
        here.make("bucket")
        for name, value in here.environment.items():
            monkeypatch.setenv(name, value)
        url = "s3://bucket/x"

        def work() -> None:
            with working(url, LAYOUT, quiet) as copy:
                copy.bucket.patience_s = 1.0
                with copy.writing(quiet, SLOW):
                    write_generation(copy.folder, 1)
                    here.stop()

        with pytest.raises(StorageLost, match="the same command publishes them"):
            work()
        here.start()
        here.make("bucket")
        said: list[str] = []
        with working(url, LAYOUT, said.append) as copy:
            assert said == [f"{url}: going on with what this machine did and did not publish"]
            assert generation(copy.folder) == 1
            with copy.writing(quiet, SLOW):
                pass
        with reading(url, LAYOUT) as folder:
            assert generation(folder) == 1


def test_unpublished_work_gives_way_to_what_another_machine_published(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in_the_middle(url, Path(os.environ["MERGEFRONT_CACHE"]), 0.0, published=False)
    with elsewhere("second", tmp_path, monkeypatch), working(url, LAYOUT, quiet) as copy, copy.writing(quiet, SLOW):
        write_generation(copy.folder, 1000)
    said: list[str] = []
    with working(url, LAYOUT, said.append) as copy:
        assert generation(copy.folder) == 1000
    assert "another machine went on with this run; what this one did not publish is in " in said[0]
    assert Path(said[0].rsplit(" in ", 1)[1]).is_dir()


def test_a_newer_version_and_strangers_are_told(url: str) -> None:
    bucket = Bucket(parse(url))
    bucket.write("manifests/0000000001.json", b'{"format": 99, "number": 1}')
    with (
        pytest.raises(
            InputError, match=r"written by a newer mergefront \(format 99, known here: 1\); update mergefront"
        ),
        working(url, LAYOUT, quiet),
    ):
        pass
    bucket.write("manifests/0000000002.json", b"[]")
    with pytest.raises(InputError, match="is no manifest of ours"), reading(url, LAYOUT):
        pass


def test_damage_is_noticed(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working(url, LAYOUT, quiet) as copy, copy.writing(quiet, SLOW):
        (copy.folder / "a").write_text("right")
    bucket = Bucket(parse(url))
    (name,) = bucket.names("objects")
    bucket.write(name, b"wrong")
    with elsewhere("second", tmp_path, monkeypatch):
        with pytest.raises(Damaged, match="has other contents than its name says"), reading(url, LAYOUT):
            pass
        bucket.delete([name])
        with pytest.raises(Damaged, match="objects that its manifest names are missing"), reading(url, LAYOUT):
            pass
