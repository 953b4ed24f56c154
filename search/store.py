"""`study.db`: the one source of truth of a run.

Everything that a resume, a table or the report needs is a row here; per-item results lie beside it as parquet files
(`run.items`). Writers are the driver and the searches, each with a connection of its own. Every change is one short
transaction, so a kill at any moment leaves whole rows, and each may be done twice with the effect of once, so that it
can be tried again when the connection is lost. Optuna's studies are rebuilt from these rows, never recovered from a
state of their own: two truths would diverge.

What a change costs does not grow with the study: numbers are counted in one row (`totals`), not found by looking.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from evaluators._types import Score

from ._study import rows, tables
from ._study.database import PATIENCE_S, connect, reach, retried, shown, url_of
from ._study.rows import Point as Point
from ._study.rows import Totals as Totals

T = TypeVar("T")

SCHEMA_VERSION = 1
Scores = Mapping[tuple[str, str], Score]
"""(evaluator, language) -> score; language "" is the score over all languages."""


class Store:
    """Rows of one run. `owner` marks the driver that writes; what a later driver took over ignores the earlier one."""

    def __init__(self, place: Path | str, owner: str = "", patience_s: float = PATIENCE_S) -> None:
        """Open lazily.

        Args:
            place: a SQLite file or a database URL (`_study.database.url_of`).
            owner: of what this driver enters.
            patience_s: how long a lost connection is tried again.

        Raises:
            UserError: no such kind of database, or its driver is not installed.
        """
        self.place, self.owner, self.patience_s = place, owner, patience_s
        self.url = url_of(place)
        self.engine = connect(self.url)
        self._clock: tuple[float, float] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.place, self.owner, self.patience_s)

    def __str__(self) -> str:
        return shown(self.url)

    def _write(self, change: Callable[[sa.Connection], T]) -> T:
        """One transaction; `change` has the same effect when it is done twice."""

        def once() -> T:
            with self.engine.begin() as connection:
                return change(connection)

        return retried(once, self.url, self.patience_s)

    def _read(self, query: Callable[[sa.Connection], T]) -> T:
        def once() -> T:
            with self.engine.connect() as connection:
                return query(connection)

        return retried(once, self.url, self.patience_s)

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        return self._read(lambda connection: connection.execute(query).all())

    def reach(self) -> None:
        """Look whether the database is there and ours, or empty.

        Raises:
            UserError: it cannot be reached, or holds something else.
        """
        reach(self.engine, self.url, tuple(tables.METADATA.tables))

    def create(self) -> None:
        """Make the tables if they are not there yet; called once by the driver before any search starts.

        Raises:
            UserError: the database cannot be reached, or holds something else.
        """
        self.reach()
        tables.METADATA.create_all(self.engine)
        self.complete()
        self.put("schema", SCHEMA_VERSION)

        def count(connection: sa.Connection) -> None:
            if connection.execute(sa.select(tables.META.c.key).where(tables.META.c.key == "totals")).first() is None:
                counted = json.dumps(asdict(rows.counted(connection)))
                connection.execute(sa.insert(tables.META).values(key="totals", value=counted))

        self._write(count)

    def complete(self) -> None:
        """Give a study of an earlier version the columns that it lacks."""
        self._write(tables.add_columns)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value under `key`, replacing what was there."""

        def change(connection: sa.Connection) -> None:
            connection.execute(sa.delete(tables.META).where(tables.META.c.key == key))
            connection.execute(sa.insert(tables.META).values(key=key, value=json.dumps(value)))

        self._write(change)

    def get(self, key: str, default: Any = None) -> Any:
        """The JSON value kept under `key`."""
        query = sa.select(tables.META.c.value).where(tables.META.c.key == key)
        row = self._read(lambda connection: connection.execute(query).first())
        return default if row is None else json.loads(row.value)

    def start_clock(self) -> None:
        """Count wall time from now on, on top of what earlier drivers spent."""
        self._clock = (self.totals().wall, time.monotonic())

    def wall(self) -> float:
        """Seconds in which drivers worked on the study, this one included since its `start_clock`."""
        if self._clock is None:
            return self.totals().wall
        before, start = self._clock
        return before + time.monotonic() - start

    def totals(self) -> Totals:
        """The running sums."""
        return Totals(**self.get("totals", {}))

    def log(self, kind: str, **detail: Any) -> None:
        """Append an event."""
        row = {"at": time.time(), "kind": kind, "detail": json.dumps(detail)}

        self._write(lambda connection: rows.enter_event(connection, row))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of a kind, oldest first, each with its time under `at` (Unix seconds)."""
        query = sa.select(tables.EVENTS).where(tables.EVENTS.c.kind == kind).order_by(tables.EVENTS.c.number)
        return [{"at": row.at, **json.loads(row.detail)} for row in self._rows(query)]

    def add_model(self, name: str, kind: str, key: str) -> None:
        """Enter an unmerged point (base, expert, baseline), RUNNING until scored; one that FAILED gets another try.

        A run cannot go on without it, so whoever runs again has mended what was wrong.
        """
        now = time.time()

        def change(connection: sa.Connection) -> None:
            known = connection.execute(sa.select(tables.POINTS.c.id).where(tables.POINTS.c.id == name)).first()
            if known is None:
                row: dict[str, Any] = {"id": name, "kind": kind, "key": key, "state": "RUNNING", "asked": now}
                connection.execute(sa.insert(tables.POINTS).values(**row, owner=self.owner))
            else:
                failed = tables.POINTS.c.state == "FAILED"
                again = (
                    sa.update(tables.POINTS)
                    .where(tables.POINTS.c.id == name, failed)
                    .values(state="RUNNING", reason=None)
                )
                connection.execute(again)
                self._try_again(connection, tables.POINTS.c.id == name)

        self._write(change)

    def add_candidate(
        self, key: str, search: str, method: str, params: Mapping[str, Any], kind: str = "merge"
    ) -> tuple[Point, bool]:
        """Enter a candidate; (the row, whether it is new). The same candidate asked twice is one row."""
        found = self.add_within(math.inf, key, search, method, params, kind)
        assert found is not None, "there is no limit"
        return found

    def add_within(
        self, limit: float, key: str, search: str, method: str, params: Mapping[str, Any], kind: str = "merge"
    ) -> tuple[Point, bool] | None:
        """`add_candidate` where the study has fewer than `limit` of its kind; None where it has not."""
        now = time.time()
        values: dict[str, Any] = {"kind": kind, "key": key, "search": search, "method": method}
        values |= {"params": json.dumps(params), "state": "RUNNING", "asked": now, "owner": self.owner}

        def change(connection: sa.Connection) -> tuple[Point, bool] | None:
            # Locked before reading, so that two searches never draw the same number.
            totals = rows.locked_totals(connection)
            row = connection.execute(sa.select(tables.POINTS).where(tables.POINTS.c.key == key)).mappings().first()
            if row is not None:
                mine = row["owner"] == self.owner and row["asked"] == now  # written by a try whose answer was lost
                if not mine:
                    self._try_again(connection, tables.POINTS.c.key == key)
                return rows.point_of(row), mine
            if limit < math.inf and rows.number_of(connection, kind) >= limit:
                return None
            values["id"] = str(totals["candidates"] + 1)
            connection.execute(sa.insert(tables.POINTS).values(**values))
            rows.keep_totals(connection, totals | {"candidates": totals["candidates"] + 1})
            row = connection.execute(sa.select(tables.POINTS).where(tables.POINTS.c.key == key)).mappings().one()
            return rows.point_of(row), True

        return self._write(change)

    def reopen(self, points: Sequence[str], kind: str, **detail: Any) -> tuple[Point, ...]:
        """Let points that a race dropped (PRUNED) go on; their rows, which keep the scores of what they have.

        The event `kind` is entered with it, once.
        """
        row = {"at": time.time(), "kind": kind, "detail": json.dumps({**detail, "points": list(points)})}

        def change(connection: sa.Connection) -> tuple[Point, ...]:
            rows.enter_event(connection, row)
            which = tables.POINTS.c.id.in_(points)
            dropped = tables.POINTS.c.state == "PRUNED"
            again = sa.update(tables.POINTS).where(which, dropped).values(state="RUNNING", owner=self.owner)
            connection.execute(again)
            found = connection.execute(sa.select(tables.POINTS).where(which)).mappings().all()
            return tuple(sorted((rows.point_of(row) for row in found), key=rows.order))

        return self._write(change)

    def _try_again(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        """Count that an interrupted scoring begins anew; what is COMPLETE or FAILED is not touched."""
        again = {"tries": tables.POINTS.c.tries + 1, "owner": self.owner}
        connection.execute(sa.update(tables.POINTS).where(which, tables.POINTS.c.state == "RUNNING").values(**again))

    def forget(self, search: str) -> None:
        """End what a search has under way: it was stopped. What was scored in part stays so, the rest is removed."""
        under_way = (tables.POINTS.c.search == search, tables.POINTS.c.state == "RUNNING")
        scored = tables.POINTS.c.turn.is_not(None)

        def change(connection: sa.Connection) -> None:
            connection.execute(sa.update(tables.POINTS).where(*under_way, scored).values(state="PRUNED"))
            connection.execute(sa.delete(tables.POINTS).where(*under_way))

        self._write(change)

    def finish(
        self, point: str, seconds: float, split: str, scores: Scores, *, state: str = "COMPLETE", tokens: int = 0
    ) -> bool:
        """Mark a point COMPLETE, or PRUNED by a race, with its scores; False when another driver took it over.

        Of a point that was reopened `seconds`, `tokens` and `scores` are those of all its items; it keeps its turn.
        """
        now, items = time.time(), sum(score.n for (_, language), score in scores.items() if not language)

        def change(connection: sa.Connection) -> bool:
            totals = rows.locked_totals(connection)
            before = rows.before(connection, point, split)
            new = before.turn is None
            turn = totals["turns"] + 1 if new else before.turn
            end = {"state": state, "finished": now, "seconds": seconds, "turn": turn, "tokens": tokens}
            if not self._end(connection, point, end):
                return self._ended(connection, point, state)
            connection.execute(sa.delete(tables.SCORES).where(*rows.of_point(point, split)))
            connection.execute(sa.insert(tables.SCORES), tables.score_rows(point, split, scores))
            spent = self._spent(totals, seconds - before.seconds, tokens - before.tokens)
            more = {"turns": totals["turns"] + new, "items": totals["items"] + items - before.items}
            rows.keep_totals(connection, spent | more)
            return True

        return self._write(change)

    def fail(self, point: str, seconds: float, reason: str, *, tokens: int = 0) -> bool:
        """Mark a point FAILED with its reason; False when another driver took it over meanwhile."""
        now = time.time()

        def change(connection: sa.Connection) -> bool:
            totals = rows.locked_totals(connection)
            end = {"state": "FAILED", "finished": now, "seconds": seconds, "reason": reason[:2000], "tokens": tokens}
            before = rows.before(connection, point, "search")
            if not self._end(connection, point, end):
                return self._ended(connection, point, "FAILED")
            connection.execute(sa.delete(tables.SCORES).where(*rows.of_point(point, "search")))
            rows.keep_totals(connection, self._spent(totals, seconds - before.seconds, tokens - before.tokens))
            return True

        return self._write(change)

    def _end(self, connection: sa.Connection, point: str, end: Mapping[str, Any]) -> bool:
        mine = (tables.POINTS.c.id == point, tables.POINTS.c.state == "RUNNING", tables.POINTS.c.owner == self.owner)
        return bool(connection.execute(sa.update(tables.POINTS).where(*mine).values(**end)).rowcount)

    def _ended(self, connection: sa.Connection, point: str, state: str) -> bool:
        """Whether this very driver ended the point that way: a try whose answer was lost."""
        mine = (tables.POINTS.c.id == point, tables.POINTS.c.state == state, tables.POINTS.c.owner == self.owner)
        return connection.execute(sa.select(tables.POINTS.c.id).where(*mine)).first() is not None

    def _spent(self, totals: Mapping[str, Any], seconds: float, tokens: int) -> dict[str, Any]:
        wall = totals["wall"]
        if self._clock is not None:
            wall = max(wall, self._clock[0] + time.monotonic() - self._clock[1])
        tokens += totals.get("tokens", 0)  # a study of an earlier version did not count them
        return {**totals, "seconds": totals["seconds"] + seconds, "wall": wall, "tokens": tokens}

    def add_scores(self, point: str, split: str, scores: Scores) -> None:
        """Add a split's scores to a point scored before (the confirmation)."""

        def change(connection: sa.Connection) -> None:
            connection.execute(sa.delete(tables.SCORES).where(*rows.of_point(point, split)))
            connection.execute(sa.insert(tables.SCORES), tables.score_rows(point, split, scores))

        self._write(change)

    def take_over(self) -> None:
        """Make this driver the owner of all work that an earlier one left under way."""
        mine = sa.update(tables.POINTS).where(tables.POINTS.c.state == "RUNNING").values(owner=self.owner)
        self._write(lambda connection: connection.execute(mine))

    def points(self, search: str | None = None) -> tuple[Point, ...]:
        """All points, models first, or those of one search; candidates in the order in which they were asked."""
        query = sa.select(tables.POINTS)
        if search is not None:
            query = query.where(tables.POINTS.c.search == search)
        found = self._read(lambda connection: connection.execute(query).mappings().all())
        # By number and not by time: a clock may be set back, and two may be asked in the same moment.
        return tuple(sorted((rows.point_of(row) for row in found), key=rows.order))

    def scores(self, split: str, points: Sequence[str] | None = None) -> dict[str, dict[tuple[str, str], Score]]:
        """Point id -> its scores on a split."""
        found: dict[str, dict[tuple[str, str], Score]] = {}
        # Databases bound the number of a statement's parameters.
        chunks = [None] if points is None else [points[i : i + 500] for i in range(0, len(points), 500)]
        for chunk in chunks:
            query = sa.select(tables.SCORES).where(tables.SCORES.c.split == split)
            if chunk is not None:
                query = query.where(tables.SCORES.c.point.in_(chunk))
            for row in self._rows(query):
                found.setdefault(row.point, {})[row.evaluator, row.language] = Score(row.value, row.stderr, row.n)
        return found
