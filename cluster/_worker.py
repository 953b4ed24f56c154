"""The actor that answers tasks: it builds its callable once and keeps it."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from ._errors import one_line

Factory = Callable[[], Callable[[Any], Any]]
"""Called once in every worker; what it returns is called with each task."""

Answer = tuple[Any, str | None, float, str]
"""Value or one-line error, seconds spent, traceback."""

HEALTH = "health"
"""Concurrency group of `Worker.ping`: a thread of its own, so that it answers while a task runs."""


class Whereabouts(NamedTuple):
    """Where a worker is: the node's id and address, and its process."""

    node: str
    host: str
    pid: int


class Worker:
    """A failing task is data, not a crash."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._call: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Build the callable; what the factory raises comes out of here, which an actor's `__init__` would hide."""
        # It imports torch and transformers, and looking for garbage in what they make is a fifth of the time.
        gc.disable()
        try:
            self._call = self._factory()
        finally:
            gc.enable()

    def whereabouts(self) -> Whereabouts:
        """Where this actor is; needs Ray."""
        import os

        import ray

        return Whereabouts(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), os.getpid())

    def ping(self) -> None:
        """Nothing, by a thread that needs the interpreter: a process that is stopped or stuck does not answer."""

    def run(self, task: Any) -> Answer:
        """Answer one task."""
        import time

        assert self._call is not None, "ready() comes first"
        start = time.perf_counter()
        try:
            return self._call(task), None, time.perf_counter() - start, ""
        except Exception as error:  # the boundary where any failure of a candidate becomes data
            return None, one_line(error), time.perf_counter() - start, traceback.format_exc()
