"""Scores of single checkpoints in a study's database, known by what they depend on."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from evaluators._types import Score
from search.store import Store

from .database import retried
from .tables import SINGLES


def read(store: Store, key: str, split: str) -> dict[str, Score]:
    """Language ("" for all) -> score, in the order written; {} where nothing is known."""
    query = sa.select(SINGLES).where(SINGLES.c.key == key, SINGLES.c.split == split).order_by(SINGLES.c.place)

    def once() -> dict[str, Score]:
        with store.engine.begin() as connection:
            SINGLES.create(connection, checkfirst=True)  # runs of earlier versions have none
            return {row.language: Score(row.value, row.stderr, row.n) for row in connection.execute(query)}

    return retried(once, store.url, store.patience_s)


def write(store: Store, key: str, split: str, scores: Mapping[str, Score]) -> None:
    """Keep scores; done again, it changes nothing."""
    rows = [
        {"key": key, "split": split, "language": language, "place": place}
        | {"value": score.value, "stderr": score.stderr, "n": score.n}
        for place, (language, score) in enumerate(scores.items())
    ]

    def once() -> None:
        with store.engine.begin() as connection:
            connection.execute(sa.delete(SINGLES).where(SINGLES.c.key == key, SINGLES.c.split == split))
            connection.execute(sa.insert(SINGLES), rows)

    retried(once, store.url, store.patience_s)
