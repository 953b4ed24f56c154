"""Discrete events in a few lines: processes are generators that wait for seconds, or for a turn at a server."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field

Process = Generator["Server | float", None, None]
"""Yields seconds to wait, or a server to wait for; a server that was given is freed by `Clock.free`."""


@dataclass
class Server:
    """`count` equal places, first come, first served; `busy_s` is the sum over places."""

    name: str
    count: int = 1
    taken: int = 0
    busy_s: float = 0.0
    queue: deque[Process] = field(default_factory=deque)

    def used(self, seconds: float) -> float:
        """The share of the time in which its places were taken."""
        return self.busy_s / (self.count * seconds) if seconds else 0.0


class Clock:
    """The time, and what happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = itertools.count()
        self._next: list[tuple[float, int, Process]] = []

    def start(self, process: Process, after: float = 0.0) -> None:
        """Let a process begin."""
        heapq.heappush(self._next, (self.now + after, next(self._number), process))

    def use(self, server: Server, seconds: float) -> Process:
        """Wait for a place, hold it, give it back: `yield from clock.use(...)`."""
        yield server
        server.busy_s += seconds
        yield seconds
        self.free(server)

    def free(self, server: Server) -> None:
        """Give a place to the next in the queue."""
        if server.queue:
            self.start(server.queue.popleft())
        else:
            server.taken -= 1

    def run(self) -> None:
        """Until nothing happens any more."""
        while self._next:
            self.now, _, process = heapq.heappop(self._next)
            wanted = next(process, None)
            if isinstance(wanted, Server):
                if wanted.taken < wanted.count:
                    wanted.taken += 1
                    self.start(process)
                else:
                    wanted.queue.append(process)
            elif wanted is not None:
                self.start(process, wanted)
