"""What the pool of evaluator actors does, written down: figures and losses in log.jsonl, the last ones in study.db."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from search._study.tables import POINTS
from search.run.rundir import Run, log

if TYPE_CHECKING:
    from cluster.pool import RayPool
    from search.store import Store

EVERY_S = 15.0
SHOWN = ("workers", "waiting", "per_minute", "utilisation", "lost_workers", "lost_nodes")
"""Of the figures, what the job service shows."""
CAUSES = 20
POOL = "pool"
"""Key of the last figures in the database; the job service shows them."""


def failed(store: Store) -> dict[str, int]:
    """Failed candidates by cause, the first word of their reason: the exception's type where there was one."""
    counts: dict[str, int] = {}
    with store.engine.connect() as connection:
        failures = connection.execute(sa.select(POINTS.c.reason).where(POINTS.c.state == "FAILED")).scalars().all()
    for reason in failures:
        word = (reason or "").split(" ", 1)[0]
        word = word[:-1] if word.endswith(":") else "other"
        cause = word if len(counts) < CAUSES or word in counts else "other"
        counts[cause] = counts.get(cause, 0) + 1
    return dict(sorted(counts.items()))


class PoolWatch:
    """A thread that asks the pool every few seconds; a context manager around the work."""

    def __init__(self, run: Run, pool: RayPool, every_s: float = EVERY_S) -> None:
        self._run, self._pool, self._every_s = run, pool, every_s
        self._end = threading.Event()
        self._before: dict[str, Any] = {"at": time.time(), "done": 0, "busy_s": 0.0, "present_s": 0.0}
        self._thread = threading.Thread(target=self._loop, name="pool-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(90)
        self.look()

    def _loop(self) -> None:
        while not self._end.wait(self._every_s):
            self.look()

    def look(self) -> None:
        """Ask once and write it down; figures that cannot be had are not worth the run."""
        try:
            stats = self._pool.stats()
            for event in stats.pop("events"):
                log(self._run, event.pop("event"), **event)
            figures = self._figures(stats)
            log(self._run, "pool", **figures)
            self._run.store.put(POOL, figures)
        except Exception as error:  # a broker that is started again, a full disk: the next look may work
            log(self._run, "pool not asked", error=f"{type(error).__name__}: {error}")

    def _figures(self, stats: dict[str, Any]) -> dict[str, Any]:
        """The sums, and since the last look: candidates per minute, and the share of the actors' time spent on them."""
        before, now = self._before, {"at": time.time(), **stats}
        self._before = now
        minutes = max(1e-9, now["at"] - before["at"]) / 60
        present = now["present_s"] - before["present_s"]
        done = now["done"] - before["done"]
        if done < 0 or present <= 0:  # the broker was started again, and counts from nothing
            return {**stats, "at": now["at"], "per_minute": None, "utilisation": None}
        utilisation = min(1.0, (now["busy_s"] - before["busy_s"]) / present)
        return {**stats, "at": now["at"], "per_minute": round(done / minutes, 2), "utilisation": round(utilisation, 3)}
