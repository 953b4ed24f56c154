"""The tables of a study; what their columns mean is said by `search.store.Point`."""

from __future__ import annotations

import sqlalchemy as sa

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
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
)
