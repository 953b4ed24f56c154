"""Objects: made by one, whole, and tried again while the server is away. Against a real S3 server and a directory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster._errors import InputError
from cluster.storage.bucket import Bucket, StorageLost
from cluster.storage.urls import parse

from .s3 import Server, server


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_objects(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue(f"at_{kind}")
    bucket = Bucket(parse(url))
    bucket.check()
    assert bucket.names("") == []
    bucket.write("a/one", b"1")
    bucket.write("a/one", b"2")
    assert bucket.read("a/one") == b"2"
    (tmp_path / "large").write_bytes(bytes(range(256)) * 40_000)
    bucket.upload("a/large", tmp_path / "large")
    bucket.download("a/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
    assert bucket.names("a") == ["a/large", "a/one"]
    assert bucket.names("b") == []
    with pytest.raises(FileNotFoundError):
        bucket.read("a/two")
    bucket.delete(["a/one", "a/never"])
    assert bucket.names("") == ["a/large"]


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_of_many_that_create_one_succeeds(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"at_{kind}")
    start = threading.Barrier(4)

    def create(number: int) -> bool:
        bucket = Bucket(parse(url))
        start.wait(timeout=60)
        return bucket.create("lease/1", f"writer {number}".encode())

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(create, range(4)))
    assert sum(made) == 1
    assert Bucket(parse(url)).read("lease/1") == f"writer {made.index(True)}".encode()
    # An answer that was lost on the way: the same writer finds its own.
    assert Bucket(parse(url)).create("lease/1", f"writer {made.index(True)}".encode())


def test_a_bucket_that_is_not_there(at_s3: str) -> None:
    with pytest.raises(InputError, match="there is no bucket nowhere-at-all; make it first"):
        Bucket(parse("s3://nowhere-at-all/x")).check()


def test_no_credentials(at_s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="access is denied \\(NoCredentialsError\\); check the credentials"):
        Bucket(parse(at_s3)).check()


@pytest.mark.slow
def test_wrong_credentials_are_told_without_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(tmp_path / "log", INITIAL_NO_AUTH_ACTION_COUNT="1") as strict:
        strict.make("bucket")  # from the next request on, signatures are checked
        for name, value in strict.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONG")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wordwordword")
        with pytest.raises(InputError, match="access is denied") as error:
            Bucket(parse("s3://bucket/x")).check()
        assert "WRONGWRONG" not in str(error.value)
        assert "word" not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_an_outage_is_waited_for_within_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(tmp_path / "log") as here:
        here.make("bucket")
        for name, value in here.environment.items():
            monkeypatch.setenv(name, value)
        bucket = Bucket(parse("s3://bucket/x"), patience_s=120.0)
        bucket.write("kept", b"1")
        here.stop()

        def again() -> None:
            here.start()
            here.make("bucket")

        later = threading.Timer(2.0, again)
        later.start()
        bucket.write("kept", b"2")  # the server is away when this begins
        later.join()
        assert bucket.read("kept") == b"2"
        here.stop()
        with pytest.raises(StorageLost, match=r"s3://bucket/x did not answer for 1 s \(\d tries to write kept\)"):
            Bucket(parse("s3://bucket/x"), patience_s=1.0).write("kept", b"3")
        with pytest.raises(InputError, match="does not answer"):
            Bucket(parse("s3://bucket/x")).check()


def test_the_server_is_real(s3: Server) -> None:
    assert s3.client().list_buckets()["Buckets"][0]["Name"] == "bucket"
