"""The tables of a study; what their columns mean is said by `search.store.Point`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from evaluators._types import Score

ADDED = ("tokens",)
"""Columns of `points` that studies of earlier versions do not have."""

METADATA = sa.MetaData()
META = sa.Table("meta", METADATA, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String))
POINTS = sa.Table(
    "points",
    METADATA,
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
    sa.Column("tokens", sa.BigInteger),
)
SCORES = sa.Table(
    "scores",
    METADATA,
    sa.Column("point", sa.String, sa.ForeignKey("points.id"), primary_key=True),
    sa.Column("split", sa.String, primary_key=True),
    sa.Column("evaluator", sa.String, primary_key=True),
    sa.Column("language", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("stderr", sa.Float, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
)
SINGLES = sa.Table(
    "singles",
    METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("split", sa.String, primary_key=True),
    sa.Column("language", sa.String, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("stderr", sa.Float, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
)


def add_columns(connection: sa.Connection) -> None:
    """Give the tables of an earlier version the columns that they lack."""
    schema = (connection.get_execution_options().get("schema_translate_map") or {}).get(None)
    found = sa.inspect(connection)
    if not found.has_table(POINTS.name, schema=schema):
        return
    known = {column["name"] for column in found.get_columns(POINTS.name, schema=schema)}
    table = f"{schema}.{POINTS.name}" if schema else POINTS.name
    for name in ADDED:
        if name not in known:
            column = sa.schema.CreateColumn(POINTS.c[name]).compile(dialect=connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {column}"))


def score_rows(point: str, split: str, scores: Mapping[tuple[str, str], Score]) -> list[dict[str, Any]]:
    """The rows of `scores` that keep a point's scores on a split."""
    return [
        {"point": point, "split": split, "evaluator": evaluator, "language": language}
        | {"value": score.value, "stderr": score.stderr, "n": score.n}
        for (evaluator, language), score in scores.items()
    ]
