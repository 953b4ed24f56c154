"""What the pool of evaluator actors does, written down while it runs: figures and losses in log.jsonl, the last in study.db."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from .rundir import Run, log

if TYPE_CHECKING:
    from cluster.pool import RayPool

EVERY_S = 15.0
POOL = "pool"
"""Key of the last figures in the database; the job service shows them."""


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
            self._run.trouble("pool figures", error)

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
