"""A pool of one worker thread in this process, for score functions: every call has a limit.

A thread cannot be killed. What can be done is done, in this order: at the limit an exception is raised inside the
function, at its next step of Python code, so that a loop written in Python ends; what sits in compiled code is given a
moment, then left behind (it is a daemon, its late answer is dropped), and the next candidate runs in a new thread.
"""

from __future__ import annotations

import contextvars
import ctypes
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from cluster.pool import Outcome

GRACE_S = 1.0
MAX_LEFT_BEHIND = 3
"""Threads left behind at the same time; then nothing is started any more: each may still hold a core, or a model."""


class _Over(BaseException):
    """Raised inside a function that ran too long. No `Exception`: a function that catches those must end as well."""


class CallerPool:
    """Runs tasks one after the other in a thread of its own; see `cluster.pool.Pool`.

    Args:
        call: task -> value; what it raises becomes the outcome's error.
        limit_s: longest time for one task.
    """

    def __init__(self, call: Callable[[Any], Any], limit_s: float) -> None:
        self._call, self._limit_s = call, limit_s
        self._queue: deque[tuple[Hashable, Any]] = deque()
        self._left_behind: list[threading.Thread] = []
        self._context = contextvars.copy_context()
        self._worker: _Thread | None = None

    @property
    def size(self) -> int:
        """Always 1."""
        return 1

    @property
    def grows(self) -> bool:
        """Never."""
        return False

    def submit(self, ticket: Hashable, task: Any) -> None:
        """Queue a task."""
        self._queue.append((ticket, task))

    def collect(self, timeout_s: float) -> tuple[Outcome, ...]:
        """Run the oldest task, for as long as the limit allows; () when nothing is queued.

        An interrupt (Ctrl-C) ends the function too, and is raised here.
        """
        del timeout_s  # the limit bounds the wait
        if not self._queue:
            return ()
        ticket, task = self._queue.popleft()
        self._left_behind = [thread for thread in self._left_behind if thread.is_alive()]
        if len(self._left_behind) >= MAX_LEFT_BEHIND:
            refused = f"not started: {MAX_LEFT_BEHIND} earlier calls are still running beyond their limit"
            return (Outcome(ticket, None, refused, 0.0),)
        if self._worker is None:
            self._worker = _Thread(self._call, self._context)
        start = time.perf_counter()
        self._worker.tasks.put(task)
        try:
            value, error = self._worker.answers.get(timeout=self._limit_s)
        except queue.Empty:
            value, error = None, f"TimeoutError: no answer within {self._limit_s:g} s"
            self._abandon()
        except BaseException:
            self._abandon()
            raise
        return (Outcome(ticket, value, error, time.perf_counter() - start),)

    def close(self) -> None:
        """Let the thread end."""
        if self._worker is not None:
            self._worker.tasks.put(_END)
            self._worker.thread.join(GRACE_S)
            self._worker = None

    def _abandon(self) -> None:
        worker, self._worker = self._worker, None
        assert worker is not None
        worker.tasks.put(_END)
        if not worker.interrupt(GRACE_S):
            self._left_behind.append(worker.thread)


_END = object()


class _Thread:
    """A daemon thread that answers tasks until told to end."""

    def __init__(self, call: Callable[[Any], Any], context: contextvars.Context) -> None:
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[Any, str | None]] = queue.SimpleQueue()
        self.thread = threading.Thread(
            target=context.copy().run, args=(self._work, call), name="mergefront-score", daemon=True
        )
        self.thread.start()

    def _work(self, call: Callable[[Any], Any]) -> None:
        try:
            while (task := self.tasks.get()) is not _END:
                self.answers.put(_answer(call, task))
        except _Over:
            pass  # too late for the function: it had just come to its end

    def interrupt(self, grace_s: float) -> bool:
        """Raise inside the thread; whether it ended within `grace_s`."""
        raised = ctypes.c_ulong(self.thread.ident or 0), ctypes.py_object(_Over)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(*raised)
        self.thread.join(grace_s)
        return not self.thread.is_alive()


def _answer(call: Callable[[Any], Any], task: Any) -> tuple[Any, str | None]:
    """What a call returned, or the one line that says why it failed."""
    try:
        return call(task), None
    except _Over:
        raise
    except BaseException as error:  # any failure of a candidate becomes data; SystemExit must not end the study
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:2000]
