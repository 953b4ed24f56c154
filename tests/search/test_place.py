"""Runs and inputs at URLs, as recipes and commands name them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search.check import check
from search.errors import Problem, UserError
from search.recipe import load_recipe
from search.run.place import LAYOUT, named_by_url, place_of, read_place
from search.run.rundir import _anywhere

from ..end_to_end.world import small_world


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGEFRONT_CACHE", str(tmp_path / "cache"))


def test_bases_data_and_items_may_be_urls(tmp_path: Path) -> None:
    file = small_world(tmp_path / "world")
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("base", "data", "eval"):
        (tmp_path / "world" / name).rename(shared / name)
    text = file.read_text()
    text = re.sub(r"\bbase: base\b", f"base: file://{shared}/base", text)
    text = re.sub(r"files: (data/\S+?)}", rf'files: "file://{shared}/\1"}}', text)
    text = re.sub(r"data: (eval/\S+?)}", rf'data: "file://{shared}/\1"}}', text)
    assert text.count("file://") == 6
    file.write_text(text)
    recipe = load_recipe(file)
    assert check(recipe, out=tmp_path / "out").estimates
    assert Path(recipe.resolve(recipe.base)).is_relative_to(tmp_path / "cache")
    file.write_text(text.replace(f"file://{shared}/base", f"file://{shared}/bse"))
    with pytest.raises(UserError, match=re.escape(f"base: file://{shared}/bse: nothing is there; check the URL")):
        check(load_recipe(file), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (("data.x: /a/data/x.jsonl", "/a"), ("data.x: /b/c/data/x.jsonl", "/b/c/")),
        (
            ("data.x: /home/ada/.cache/mergefront/storage/inputs/0123456789abcdef/copy/x.jsonl", "/a"),
            ("data.x: /mnt/storage/inputs/fedcba9876543210/copy/x.jsonl", "/b"),
        ),
        (("base", "/a"), ("base", "/b")),
    ],
)
def test_inputs_are_the_same_wherever_their_folder_is(here: tuple[str, str], there: tuple[str, str]) -> None:
    assert _anywhere(*here) == _anywhere(*there)


def test_messages_name_the_url() -> None:
    def fail() -> None:
        with named_by_url("s3://b/x") as rename:
            rename(Path("/cache/copy"))
            raise UserError(Problem("/cache/copy", None, "--out", "is odd", "/cache/copy/y", "see /cache/copy"))

    with pytest.raises(UserError) as error:
        fail()
    assert str(error.value) == "s3://b/x: --out: is odd, got s3://b/x/y; see s3://b/x"


def test_a_place_without_a_run(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store/x"
    with pytest.raises(UserError, match="holds no run; give the URL that `mergefront run` wrote to"), read_place(url):
        pass
    elsewhere = place_of(url, f"file://{tmp_path}/store/y", print)
    with pytest.raises(UserError, match="a run has its place already"):
        elsewhere.__enter__()


def test_what_is_published() -> None:
    published = ("study.db", "recipe.yaml", "items/1.parquet", "experts/ab/model.safetensors", ".database.json")
    assert all(LAYOUT.holds(name) for name in published)
    own = (".lock", "study.db-wal", "study.db-shm", "scratch/tune/x", "exports/.knee.part/x", ".report.html.7.part")
    assert not any(LAYOUT.holds(name) for name in own)
