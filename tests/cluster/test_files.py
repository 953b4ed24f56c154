"""Checkpoints on nodes that do not share the driver's storage."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.files import CACHE, CACHE_GB, CHUNK, Files, Library, _make_room, _same


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer" / "vocab.txt").write_text("a b c")
    (folder / "model.safetensors").write_bytes(os.urandom(CHUNK + 12345))
    return folder


def test_a_listing_tells_contents_and_knows_the_same_files(checkpoint: Path) -> None:
    library = Library()
    listing = library.listing(str(checkpoint))
    assert [entry.name for entry in listing] == ["config.json", "model.safetensors", "tokenizer/vocab.txt"]
    assert _same(checkpoint, listing)
    os.utime(checkpoint / "config.json")
    assert not _same(checkpoint, listing), "another file of the same name and size"
    assert [e.digest for e in library.listing(str(checkpoint))] == [e.digest for e in listing]
    with pytest.raises(FileNotFoundError, match="the driver's node has no such directory"):
        library.listing(str(checkpoint / "gone"))


def test_the_cache_keeps_its_bound_and_what_was_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_GB, "0.00001")  # 10 kB
    for age, name in enumerate("abc"):
        tree = tmp_path / (name * 32)
        tree.mkdir()
        (tree / "model.safetensors").write_bytes(bytes(4000))
        os.utime(tree, (1e9 - age, 1e9 - age))
    _make_room(tmp_path, 5000, keep=tmp_path / "d")
    assert sorted(tree.name[0] for tree in tmp_path.iterdir()) == ["a"]
    with pytest.raises(OSError, match=r"0.0 GB do not fit .*name another disk in \$MERGEFRONT_CACHE"):
        _make_room(tmp_path, 20_000, keep=tmp_path / "d")


def fetching(files: Files, folder: str) -> Callable[[], Callable[[Any], Any]]:
    def factory() -> Callable[[Any], Any]:
        here = Path(files.local(folder))
        return lambda name: (str(here), (here / name).read_bytes())

    return factory


@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_a_node_fetch_once(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.files import open_files
    from cluster.pool import open_pool
    from cluster.session import session

    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    with session("local", cpus=2):
        files = open_files()
        assert files.local(str(checkpoint)) == str(checkpoint), "storage that is shared is read in place"
        away = Files(files.library, in_place=False)
        pool = open_pool(fetching(away, str(checkpoint)), actors=2, cpus=0.9, start_timeout_s=120)
        names = ("config.json", "model.safetensors", "tokenizer/vocab.txt")
        for name in names:
            pool.submit(name, name)
        found: dict[Any, tuple[str, bytes]] = {}
        while answers := pool.collect(60):
            found |= {outcome.ticket: outcome.value for outcome in answers}
        pool.close()
    assert {name: found[name][1] for name in names} == {name: (checkpoint / name).read_bytes() for name in names}
    assert len({place for place, _ in found.values()}) == 1
    trees = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(trees) == 1, "one copy for two workers"
