"""The pool's protocol in one process: for tests, notebooks, and machines without Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any

from ._worker import Factory, Worker
from .pool import Outcome


class LocalPool:
    """Runs each task when its outcome is asked for, in the order of submission."""

    def __init__(self, factory: Factory) -> None:
        self._worker = Worker(factory)
        self._worker.ready()
        self._queue: deque[tuple[Hashable, Any]] = deque()

    @property
    def size(self) -> int:
        """Always 1: tasks run one after the other."""
        return 1

    @property
    def grows(self) -> bool:
        """Never."""
        return False

    def submit(self, ticket: Hashable, task: Any) -> None:
        """Queue a task."""
        self._queue.append((ticket, task))

    def collect(self, timeout_s: float) -> tuple[Outcome, ...]:
        """Run the oldest task to its end; `timeout_s` cannot interrupt this process and is not used."""
        del timeout_s
        if not self._queue:
            return ()
        ticket, task = self._queue.popleft()
        value, error, seconds, trace = self._worker.run(task)
        return (Outcome(ticket, value, error, seconds, trace),)
