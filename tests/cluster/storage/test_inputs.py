"""Inputs at URLs: fetched once, again when they change, never removed while in use."""

from __future__ import annotations

import os
import time

import pytest

from cluster._errors import InputError
from cluster.storage import cache, inputs
from cluster.storage.bucket import Bucket
from cluster.storage.urls import parse


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_kept", {})


def forget() -> None:
    """What a process's end does."""
    for guard, _ in inputs._kept.values():
        guard.close()
    inputs._kept.clear()


def test_a_directory_is_fetched_once_and_again_when_it_changes(url: str) -> None:
    bucket = Bucket(parse(url))
    bucket.write("config.json", b"{}")
    bucket.write("sub/model.safetensors", b"weights")
    first = inputs.local(url)
    assert sorted(str(file.relative_to(first)) for file in first.rglob("*") if file.is_file()) == [
        "config.json",
        "sub/model.safetensors",
    ]
    made = (first / "config.json").stat().st_mtime_ns
    forget()
    assert inputs.local(url) == first
    assert (first / "config.json").stat().st_mtime_ns == made
    forget()
    bucket.write("config.json", b'{"new": 1}')
    second = inputs.local(url)
    assert second != first
    assert (second / "config.json").read_bytes() == b'{"new": 1}'


def test_a_file(url: str) -> None:
    Bucket(parse(url)).write("items.jsonl", b"{}\n")
    found = inputs.local(f"{url}/items.jsonl")
    assert found.name == "items.jsonl"
    assert found.read_bytes() == b"{}\n"


def test_what_is_in_use_stays(at_file: str) -> None:
    Bucket(parse(at_file)).write("model", b"weights")
    used = inputs.local(at_file)
    os.utime(used.parent.parent, (0, 0))
    cache.trim(0)
    assert (used / "model").exists()
    forget()
    cache.trim(0)
    assert not used.exists()


def test_a_fetch_that_was_killed_is_done_again(at_file: str) -> None:
    Bucket(parse(at_file)).write("model", b"weights")
    place = inputs.local(at_file)
    forget()
    (place.parent.parent / "complete").unlink()
    (place / "model").write_bytes(b"wei")
    assert (inputs.local(at_file) / "model").read_bytes() == b"weights"


def test_nothing_there(url: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match="nothing is there; check the URL"):
        inputs.local(url)
    assert time.monotonic() - start < 60
