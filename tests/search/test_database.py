"""Rows through lost connections, tries whose answer was lost, and files of an earlier version."""

from __future__ import annotations

import pickle
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from evaluators._types import Score
from search._study.database import DatabaseLost, retried, shown, url_of
from search.errors import UserError
from search.store import Store, Totals

SCORES = {("safety", ""): Score(0.5, 0.1, 40), ("safety", "en"): Score(0.4, 0.1, 20)}


class Forgetful(Store):
    """Every change is done, and then the connection is lost before the answer comes: it is done twice."""

    def _write(self, change: Callable[[sa.Connection], Any]) -> Any:
        super()._write(change)
        return super()._write(change)


def test_a_change_whose_answer_was_lost_counts_once(tmp_path: Path) -> None:
    store = Forgetful(tmp_path / "study.db", "me")
    store.create()
    store.put("key", [1])
    store.log("event", detail=1)
    store.add_model("base", "base", "base:1")
    point, new = store.add_candidate("a", "linear", "linear", {})
    assert new
    assert (point.id, point.tries) == ("1", 1)
    assert store.finish(point.id, 2.0, "search", SCORES)
    other, _ = store.add_candidate("b", "linear", "linear", {})
    assert store.fail(other.id, 1.0, "reason")
    assert store.get("key") == [1]
    assert len(store.events("event")) == 1
    assert store.totals() == Totals(candidates=2, turns=1, items=40, seconds=3.0)
    assert [(p.id, p.state, p.turn, p.tries) for p in store.points("linear")] == [
        ("1", "COMPLETE", 1, 1),
        ("2", "FAILED", None, 1),
    ]
    store.close()


def test_another_driver_is_still_refused(tmp_path: Path) -> None:
    first = Store(tmp_path / "study.db", "first")
    first.create()
    point, _ = first.add_candidate("a", "linear", "linear", {})
    second = Store(tmp_path / "study.db", "second")
    second.take_over()
    assert not first.finish(point.id, 1.0, "search", SCORES)
    assert second.finish(point.id, 1.0, "search", SCORES)
    assert not first.finish(point.id, 1.0, "search", SCORES)
    assert first.totals().turns == 1


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.db", "me", patience_s=20.0)
    store.create()
    sa.event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
    store.engine.dispose()
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.6, lambda: other.execute("COMMIT")).start()
    start = time.monotonic()
    store.put("key", 1)
    assert time.monotonic() - start > 0.4
    assert store.get("key") == 1
    other.execute("BEGIN IMMEDIATE")
    store.patience_s = 0.3
    with pytest.raises(DatabaseLost, match=r"study.db did not answer for 0.3 s \(\d+ tries\): database is locked"):
        store.put("key", 2)
    other.execute("ROLLBACK")
    other.close()
    store.close()


def test_a_wrong_statement_is_not_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.db", "me")
    with pytest.raises(sa.exc.OperationalError, match="no such table"):
        store.points()
    tries = 0

    def fails() -> None:
        nonlocal tries
        tries += 1
        raise sa.exc.IntegrityError("x", {}, Exception("unique"))

    with pytest.raises(sa.exc.IntegrityError):
        retried(fails, url_of(tmp_path / "x.db"), 5.0)
    assert tries == 1


def test_sums_of_a_study_that_was_begun_without_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.db", "me")
    store.create()
    for key in "ab":
        point, _ = store.add_candidate(key, "linear", "linear", {})
        store.finish(point.id, 1.5, "search", SCORES)
    with store.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM meta WHERE key = 'totals'"))
    store.create()
    assert store.totals() == Totals(candidates=2, turns=2, items=80, seconds=3.0, wall=3.0)
    assert store.add_candidate("c", "linear", "linear", {})[0].id == "3"
    store.close()


def test_candidates_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.db", "me")
    store.create()
    store.add_model("base", "base", "base:1")
    for number in range(12):
        store.add_candidate(str(number), "linear", "linear", {})
    with store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE points SET asked = 0 WHERE id = '11'"))  # a clock that was set back
    assert [point.id for point in store.points()] == ["base", *map(str, range(1, 13))]
    store.close()


def test_more_scores_than_a_statement_has_room_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "study.db", "me")
    store.create()
    assert store.scores("search", [str(number) for number in range(40_000)]) == {}
    store.close()


def test_stores_travel_to_other_processes(tmp_path: Path) -> None:
    store = pickle.loads(pickle.dumps(Store(tmp_path / "study.db", "me", 3.0)))
    assert (store.place, store.owner, store.patience_s) == (tmp_path / "study.db", "me", 3.0)


def test_passwords_are_never_shown() -> None:
    url = url_of("postgresql://me:secret@host:5/db?schema=mine")
    assert shown(url) == "postgresql://me:***@host:5/db?schema=mine"
    for bad in ("postgresql://me:secret@host:x/db", "oracle://me:secret@host/db"):
        with pytest.raises(UserError) as found:
            url_of(bad)
        assert "secret" not in str(found.value)
