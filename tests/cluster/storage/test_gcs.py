"""`gs://` against an emulator that knows Google's interface, but not its conditions: the road, and what guards it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from cluster._errors import InputError
from cluster.storage import manifest as manifests
from cluster.storage.bucket import Bucket
from cluster.storage.hashes import Hashes
from cluster.storage.layout import Layout
from cluster.storage.lease import take
from cluster.storage.publish import publish
from cluster.storage.urls import parse
from cluster.storage.working import reading

pytestmark = pytest.mark.slow
LIMIT_S = 60.0


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("gcp-storage-emulator")
    command = [str(program), "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + LIMIT_S
    try:
        while True:
            try:
                requests.get(f"{url}/storage/v1/b", timeout=5)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, f"no emulator within {LIMIT_S} s"
                time.sleep(0.05)
        requests.post(f"{url}/storage/v1/b?project=p", json={"name": "bucket"}, timeout=30).raise_for_status()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path / "cache"))
        yield "gs://bucket/runs/x"
    finally:
        process.kill()
        process.wait(timeout=30)


def test_objects_and_states(emulator: str, tmp_path: Path) -> None:
    bucket, folder, work = Bucket(parse(emulator)), tmp_path / "run", tmp_path / "work"
    bucket.check()
    for made in (folder, work):
        made.mkdir()
    (folder / "weights").write_bytes(os.urandom(300_000))
    hashes = Hashes(folder, work / "hashes.json")
    state = publish(bucket, folder, Layout(), manifests.EMPTY, "us", hashes, work)
    assert manifests.newest(bucket) == state
    with reading(emulator, Layout()) as copy:
        assert (copy / "weights").read_bytes() == (folder / "weights").read_bytes()
    bucket.delete([state.name, "objects/none"])
    assert manifests.newest(bucket).number == 0
    assert len(bucket.listing()) == 1
    with pytest.raises(InputError, match="there is no bucket nowhere"):
        Bucket(parse("gs://nowhere/x")).check()


def test_storage_that_ignores_conditions_is_refused(emulator: str) -> None:
    with pytest.raises(InputError, match="this storage ignores conditional writes"):
        take(Bucket(parse(emulator)))
    assert Bucket(parse(emulator)).names("") == []
