from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from evaluators.judge_harm import FORM
from evaluators.judges.batch import Question, answer
from evaluators.judges.cache import VARIABLE, Cache, Spent, default_file
from evaluators.judges.errors import Unavailable

from .conftest import Serve
from .server import Action, Body, Say, verdict

WRITERS, ROWS = 4, 150


def keep(cache: Cache, key: bytes, verdict: str) -> str:
    return cache.keep(key, verdict, reply="r", prompt="p", asked="a", served="s")


def write(file: str, who: int, start: object) -> None:
    start.wait(120)  # type: ignore[attr-defined]  # a multiprocessing barrier
    with Cache(file) as cache:
        for row in range(ROWS):
            # Everybody writes the same keys; what stands must be what the first one wrote, for all.
            assert keep(cache, b"%d" % row, str(who)) == cache.verdicts([b"%d" % row])[b"%d" % row]
            cache.spend("a", Spent(1, 0, 10, 1, 0.25))
            cache.count("a", "harm", {"answers": 1})


def test_several_processes_share_a_file(tmp_path: Path) -> None:
    file = str(tmp_path / "new" / "cache.sqlite")
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(WRITERS)
    writers = [context.Process(target=write, args=(file, who, start)) for who in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(240)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    total = WRITERS * ROWS
    with Cache(file) as cache:
        assert len(cache.verdicts([b"%d" % row for row in range(ROWS)])) == ROWS
        assert cache.spent("a") == Spent(total, 0, 10 * total, total, 0.25 * total)
        assert cache.spent("b") == Spent()
        assert cache.tallies("a") == {"harm": {"answers": total}}


def test_the_first_verdict_stands(tmp_path: Path) -> None:
    with Cache(str(tmp_path / "c")) as one, Cache(str(tmp_path / "c")) as other:
        assert keep(one, b"k", "harmful") == "harmful"
        assert keep(other, b"k", "harmless") == "harmful"


def test_many_keys_in_one_look(tmp_path: Path) -> None:
    keys = [b"%d" % n for n in range(2_000)]
    with Cache(str(tmp_path / "c")) as cache:
        cache.keep_answers((key, key.decode()) for key in keys[::2])
        cache.keep_answers([(keys[0], "another")])
        assert cache.answers(keys) == {key: key.decode() for key in keys[::2]}
        assert cache.answers([]) == {}


@pytest.mark.parametrize("content", [b"not a database, and longer than a header of SQLite " * 20, None])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "c"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(
        Unavailable, match=r"the judges' cache .*/c cannot be used: .*; name another one \(cache: FILE\)"
    ):
        Cache(str(file))


def test_a_cache_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "c"
    with sqlite3.connect(file) as base:
        base.execute("PRAGMA user_version=7")
    base.close()
    with pytest.raises(Unavailable, match=r"is a cache of another version of mergefront \(7\)"):
        Cache(str(file))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert default_file() == str(tmp_path / "mergefront" / "judge.sqlite")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert default_file() == str(tmp_path / "mine" / "judge.sqlite")


def test_a_question_is_asked_once_for_each_judge_prompt_and_text(serve: Serve) -> None:
    def rule(body: Body, number: int) -> Action:
        return Say(verdict("harmful" if number % 2 else "harmless"))

    def ask(text: str = "t", prompt: str = "harm-1/a", **settings: object) -> int:
        _, judge = serve(rule, **settings) if settings else (server, plain)
        return answer(judge, FORM, [Question((("user", text),), prompt, "1")]).asked

    server, plain = serve(rule)
    twice = [Question((("user", "t"),), "harm-1/a", name) for name in ("1", "2")]
    found = answer(plain, FORM, twice)
    assert found.asked == 1  # the same text of two items is one question
    assert found.verdicts[0] == found.verdicts[1]
    assert ask() == 0
    assert ask("u") == 1
    assert ask(prompt="harm-1/b") == 1
    assert ask(identity="x") == 1
    assert ask(identity="x") == 0  # another endpoint by the same identity
    assert ask(identity="x", model="larger") == 1
    assert ask(identity="x", concurrency=1, votes=2, temperature=1.0) == 2
    assert ask(identity="x", votes=3, temperature=1.0) == 1  # the votes that are known count
    with sqlite3.connect(plain.cache) as base:
        rows = base.execute("SELECT DISTINCT asked, served, prompt FROM verdicts ORDER BY 1, 2, 3").fetchall()
    base.close()
    assert ("larger at x", "larger-2026", "harm-1/a") in rows
