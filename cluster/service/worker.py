"""Calls that may take long, leak or crash, in a process of their own with a limit of time.

Reading a stranger's data or bootstrapping a front takes seconds of a core; in the server's process it would take them
from every other request.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

T = TypeVar("T")


class Overdue(RuntimeError):
    """A call that did not end within its limit; its process was ended."""


class Worker:
    """One process, made at the first call and again after a crash; calls from several threads wait for each other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._one = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._closed = False

    def call(self, function: Callable[..., T], *arguments: Any, limit_s: float) -> T:
        """`function(*arguments)` over there.

        Args:
            function: of a module; pickled by name, as are arguments and result.
            arguments: positional.
            limit_s: seconds, from the moment when the process is free.

        Raises:
            Overdue: it did not end in time.
            RuntimeError: the process died.
            Exception: what `function` raised.
        """
        with self._one:
            if self._closed:
                raise RuntimeError(f"{self.name}: the service is stopping")
            pool = self._pool = self._pool or _pool()
            future = pool.submit(function, *arguments)
            try:
                return future.result(limit_s)
            except Late:
                self._end()
                raise Overdue(f"{self.name}: not done within {limit_s:g} s") from None
            except BrokenProcessPool:
                self._end()
                raise RuntimeError(f"{self.name}: its process died") from None

    def close(self) -> None:
        """End the process, whatever it is doing; it is not made again."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for process in list((pool._processes or {}).values()):
            process.kill()  # there is no public way to end a call that does not return
        pool.shutdown(wait=True, cancel_futures=True)


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """A worker waits on a pipe that it holds open itself, so it would outlive a service that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
