"""`study.db`: the one source of truth of a run.

Everything that a resume, a table or the report needs is a row here; per-item results lie beside it as parquet files
(`search.items`). Writers are the driver and the searches, each with a connection of its own. Every change is one short
transaction, so a kill at any moment leaves whole rows. Optuna's studies are rebuilt from these rows, never recovered
from a state of their own: two truths would diverge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evaluators._types import Score

SCHEMA_VERSION = 1
_metadata = sa.MetaData()
_meta = sa.Table("meta", _metadata, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String))
_points = sa.Table(
    "points",
    _metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False, unique=True),
    sa.Column("search", sa.String),
    sa.Column("method", sa.String),
    sa.Column("params", sa.String, nullable=False, server_default="{}"),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="1"),
    sa.Column("owner", sa.String),
    sa.Column("reason", sa.String),
    sa.Column("asked", sa.Float),
    sa.Column("finished", sa.Float),
    sa.Column("seconds", sa.Float),
    sa.Column("turn", sa.Integer),
)
_scores = sa.Table(
    "scores",
    _metadata,
    sa.Column("point", sa.String, sa.ForeignKey("points.id"), primary_key=True),
    sa.Column("split", sa.String, primary_key=True),
    sa.Column("evaluator", sa.String, primary_key=True),
    sa.Column("language", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("stderr", sa.Float, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
)
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
)

Scores = Mapping[tuple[str, str], Score]
"""(evaluator, language) -> score; language "" is the score over all languages."""


@dataclass(frozen=True)
class Point:
    """One row of the front's table: a merge, an expert, a baseline or the base.

    `state` is RUNNING, COMPLETE or FAILED; `tries` counts how often scoring began (more than once only when a kill
    interrupted it); `params` hold the sampler's `values` and the merge; times are Unix seconds;
    `turn` counts scored points from 1 in the order in which they were scored (None until then).
    """

    id: str
    kind: str
    key: str
    search: str | None
    method: str | None
    params: Mapping[str, Any]
    state: str
    tries: int
    reason: str | None
    asked: float | None
    finished: float | None
    seconds: float | None
    turn: int | None


class Store:
    """Rows of one run. `owner` marks the driver that writes; what a later driver took over ignores the earlier one."""

    def __init__(self, path: Path, owner: str = "") -> None:
        self.path, self.owner = path, owner
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 60.0})

        @sa.event.listens_for(self._engine, "connect")
        def _pragmas(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")  # with WAL: safe against kill -9, not a power cut
            connection.execute("PRAGMA foreign_keys=ON")

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.path, self.owner)

    def create(self) -> None:
        """Make the tables if they are not there yet; called once by the driver before any search starts."""
        _metadata.create_all(self._engine)
        self.put("schema", SCHEMA_VERSION)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value under `key`, replacing what was there."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_meta).where(_meta.c.key == key))
            connection.execute(sa.insert(_meta).values(key=key, value=json.dumps(value)))

    def get(self, key: str, default: Any = None) -> Any:
        """The JSON value kept under `key`."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_meta.c.value).where(_meta.c.key == key)).first()
        return default if row is None else json.loads(row.value)

    def log(self, kind: str, **detail: Any) -> None:
        """Append an event."""
        with self._engine.begin() as connection:
            connection.execute(sa.insert(_events).values(at=time.time(), kind=kind, detail=json.dumps(detail)))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of a kind, oldest first, each with its time under `at` (Unix seconds)."""
        query = sa.select(_events).where(_events.c.kind == kind).order_by(_events.c.number)
        with self._engine.connect() as connection:
            return [{"at": row.at, **json.loads(row.detail)} for row in connection.execute(query)]

    def add_model(self, name: str, kind: str, key: str) -> None:
        """Enter an unmerged point (base, expert, baseline), RUNNING until scored; one that FAILED gets another try.

        A run cannot go on without it, so whoever runs again has mended what was wrong.
        """
        with self._engine.begin() as connection:
            known = connection.execute(sa.select(_points.c.id).where(_points.c.id == name)).first()
            if known is None:
                row: dict[str, Any] = {"id": name, "kind": kind, "key": key, "state": "RUNNING", "asked": time.time()}
                connection.execute(sa.insert(_points).values(**row, owner=self.owner))
            else:
                failed = _points.c.state == "FAILED"
                again = sa.update(_points).where(_points.c.id == name, failed).values(state="RUNNING", reason=None)
                connection.execute(again)
                self._try_again(connection, _points.c.id == name)

    def add_candidate(self, key: str, search: str, method: str, params: Mapping[str, Any]) -> tuple[Point, bool]:
        """Enter a merge; (the row, whether it is new). The same merge asked twice is one row."""
        with self._engine.begin() as connection:
            # Taken before reading, so that two searches never draw the same number.
            connection.exec_driver_sql("UPDATE meta SET value = value WHERE key = 'schema'")
            row = connection.execute(sa.select(_points).where(_points.c.key == key)).mappings().first()
            if row is not None:
                self._try_again(connection, _points.c.key == key)
                return _point(row), False
            count = connection.execute(sa.select(sa.func.count()).where(_points.c.kind == "merge")).scalar_one()
            values: dict[str, Any] = {
                "id": str(count + 1),
                "kind": "merge",
                "key": key,
                "search": search,
                "method": method,
            }
            values |= {
                "params": json.dumps(params),
                "state": "RUNNING",
                "asked": time.time(),
                "owner": self.owner,
            }
            connection.execute(sa.insert(_points).values(**values))
            row = connection.execute(sa.select(_points).where(_points.c.key == key)).mappings().one()
            return _point(row), True

    def _try_again(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        """Count that an interrupted scoring begins anew; what is COMPLETE or FAILED is not touched."""
        again = {"tries": _points.c.tries + 1, "owner": self.owner}
        connection.execute(sa.update(_points).where(which, _points.c.state == "RUNNING").values(**again))

    def finish(self, point: str, seconds: float, split: str, scores: Scores) -> bool:
        """Mark a point COMPLETE with its scores; False when another driver took it over meanwhile."""
        with self._engine.begin() as connection:
            turn = sa.select(sa.func.coalesce(sa.func.max(_points.c.turn), 0) + 1).scalar_subquery()
            done = connection.execute(
                sa.update(_points)
                .where(_points.c.id == point, _points.c.state == "RUNNING", _points.c.owner == self.owner)
                .values(state="COMPLETE", finished=time.time(), seconds=seconds, turn=turn)
            )
            if done.rowcount == 0:
                return False
            connection.execute(sa.insert(_scores), _score_rows(point, split, scores))
            return True

    def fail(self, point: str, seconds: float, reason: str) -> bool:
        """Mark a point FAILED with its reason; False when another driver took it over meanwhile."""
        with self._engine.begin() as connection:
            done = connection.execute(
                sa.update(_points)
                .where(_points.c.id == point, _points.c.state == "RUNNING", _points.c.owner == self.owner)
                .values(state="FAILED", finished=time.time(), seconds=seconds, reason=reason[:2000])
            )
            return bool(done.rowcount)

    def add_scores(self, point: str, split: str, scores: Scores) -> None:
        """Add a split's scores to a point scored before (the confirmation)."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_scores).where(_scores.c.point == point, _scores.c.split == split))
            connection.execute(sa.insert(_scores), _score_rows(point, split, scores))

    def take_over(self) -> None:
        """Make this driver the owner of all work that an earlier one left under way."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(_points).where(_points.c.state == "RUNNING").values(owner=self.owner))

    def points(self, search: str | None = None) -> tuple[Point, ...]:
        """All points, or those of one search, in the order in which they were asked."""
        query = sa.select(_points).order_by(_points.c.asked, _points.c.id)
        if search is not None:
            query = query.where(_points.c.search == search)
        with self._engine.connect() as connection:
            return tuple(_point(row) for row in connection.execute(query).mappings())

    def scores(self, split: str, points: Sequence[str] | None = None) -> dict[str, dict[tuple[str, str], Score]]:
        """Point id -> its scores on a split."""
        query = sa.select(_scores).where(_scores.c.split == split)
        if points is not None:
            query = query.where(_scores.c.point.in_(points))
        found: dict[str, dict[tuple[str, str], Score]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                found.setdefault(row.point, {})[row.evaluator, row.language] = Score(row.value, row.stderr, row.n)
        return found


def _point(row: Mapping[Any, Any]) -> Point:
    values = {name: row[name] for name in Point.__dataclass_fields__ if name != "params"}
    return Point(**values, params=json.loads(row["params"]))


def _score_rows(point: str, split: str, scores: Scores) -> list[dict[str, Any]]:
    return [
        {"point": point, "split": split, "evaluator": evaluator, "language": language}
        | {"value": score.value, "stderr": score.stderr, "n": score.n}
        for (evaluator, language), score in scores.items()
    ]
