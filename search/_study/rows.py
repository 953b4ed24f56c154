"""Rows of a study as values, and the statements that its transactions are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from . import tables


@dataclass(frozen=True)
class Point:
    """One row of the front's table: a merge, an expert, a baseline or the base.

    `state` is RUNNING, COMPLETE or FAILED; `tries` counts how often scoring began (more than once only when a kill
    interrupted it); `params` hold the sampler's `values` and the merge; times are Unix seconds;
    `turn` counts scored points from 1 in the order in which they were scored (None until then); `tokens` went through
    the model to score it on the search split (None until then).
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
    tokens: int | None


@dataclass(frozen=True)
class Totals:
    """Running sums of a study, over all its searches and resumes.

    Attributes:
        candidates: merges (or points of a score function) entered.
        turns: points scored.
        items: items that those were scored on, over all evaluators.
        seconds: of evaluation, failed candidates included.
        wall: seconds in which a driver worked on it, up to the last candidate that ended.
        tokens: that went through models to score them, failed candidates included as far as they came.
    """

    candidates: int = 0
    turns: int = 0
    items: int = 0
    seconds: float = 0.0
    wall: float = 0.0
    tokens: int = 0


def order(point: Point) -> tuple[int, float]:
    return (int(point.id), 0.0) if point.id.isdigit() and point.search is not None else (0, point.asked or 0.0)


def enter_event(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    same = [tables.EVENTS.c[name] == value for name, value in row.items()]
    if connection.execute(sa.select(tables.EVENTS.c.number).where(*same)).first() is None:
        connection.execute(sa.insert(tables.EVENTS).values(**row))


class Before(NamedTuple):
    """What a point that was reopened had; all 0, and no turn, of one that was not."""

    turn: int | None
    seconds: float
    tokens: int
    items: int


def before(connection: sa.Connection, point: str, split: str) -> Before:
    row = connection.execute(sa.select(tables.POINTS).where(tables.POINTS.c.id == point)).first()
    if row is None or row.turn is None:  # forgotten meanwhile, or scored for the first time
        return Before(None, 0.0, 0, 0)
    counted = sa.select(sa.func.sum(tables.SCORES.c.n)).where(*of_point(point, split), tables.SCORES.c.language == "")
    items = connection.execute(counted).scalar_one()
    return Before(row.turn, row.seconds or 0.0, row.tokens or 0, int(items or 0))


def of_point(point: str, split: str) -> tuple[sa.ColumnElement[bool], ...]:
    return tables.SCORES.c.point == point, tables.SCORES.c.split == split


def number_of(connection: sa.Connection, kind: str) -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(tables.POINTS.c.kind == kind)).scalar_one())


def locked_totals(connection: sa.Connection) -> dict[str, Any]:
    """The running sums, with their row locked until the transaction ends."""
    row = tables.META.c.key == "totals"
    connection.execute(sa.update(tables.META).where(row).values(value=tables.META.c.value))
    found: dict[str, Any] = json.loads(connection.execute(sa.select(tables.META.c.value).where(row)).scalar_one())
    return found


def keep_totals(connection: sa.Connection, totals: Mapping[str, Any]) -> None:
    connection.execute(sa.update(tables.META).where(tables.META.c.key == "totals").values(value=json.dumps(totals)))


def counted(connection: sa.Connection) -> Totals:
    """The running sums of a study that was begun before they were kept."""
    numbers = sa.select(
        sa.func.count(tables.POINTS.c.search), sa.func.max(tables.POINTS.c.turn), sa.func.sum(tables.POINTS.c.seconds)
    )
    candidates, turns, seconds = connection.execute(numbers).one()
    where = (tables.SCORES.c.split == "search", tables.SCORES.c.language == "")
    items = connection.execute(sa.select(sa.func.sum(tables.SCORES.c.n)).where(*where)).scalar_one()
    return Totals(int(candidates), int(turns or 0), int(items or 0), float(seconds or 0.0), float(seconds or 0.0))


def point_of(row: Mapping[Any, Any]) -> Point:
    values = {name: row[name] for name in Point.__dataclass_fields__ if name != "params"}
    return Point(**values, params=json.loads(row["params"]))
