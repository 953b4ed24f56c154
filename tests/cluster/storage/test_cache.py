"""Local copies: bounded, the longest unused first, never what is in use or was not published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster._errors import InputError
from cluster.storage import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path))


def fill(url: str, size: int, age: float, *, dirty: bool = False) -> Path:
    with cache.hold("runs", url) as copy:
        copy.folder.mkdir()
        (copy.folder / "data").write_bytes(bytes(size))
        copy.save(dirty=dirty)
    os.utime(copy.home, (1e9 - age, 1e9 - age))
    return copy.home


def test_the_longest_unused_goes_first() -> None:
    old, young = fill("s3://b/old", 5000, 100), fill("s3://b/young", 5000, 1)
    cache.trim(8000)
    assert not old.exists()
    assert young.exists()
    cache.trim(100)
    assert not young.exists()


def test_what_is_in_use_or_was_not_published_stays() -> None:
    used, unpublished = fill("s3://b/used", 5000, 100), fill("s3://b/dirty", 5000, 50, dirty=True)
    gone = fill("s3://b/gone", 5000, 1)
    with cache.hold("runs", "s3://b/used"):
        cache.trim(100)
        assert used.exists()
        assert unpublished.exists()
        assert not gone.exists()


def test_two_do_not_share_a_copy() -> None:
    second = cache.hold("runs", "s3://b/x")
    with cache.hold("runs", "s3://b/x"), pytest.raises(InputError, match="another mergefront process of this machine"):
        second.__enter__()


@pytest.mark.parametrize(("text", "size"), [("", 200e9), ("5GB", 5e9), ("1.5 tb", 1.5e12), ("1000", 1000), ("2g", 2e9)])
def test_the_bound(text: str, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGEFRONT_CACHE_SIZE", text)
    assert cache.bound() == size
    monkeypatch.setenv("MERGEFRONT_CACHE_SIZE", "many")
    with pytest.raises(InputError, match="MERGEFRONT_CACHE_SIZE: must be a size in bytes"):
        cache.bound()
