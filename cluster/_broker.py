"""The actor that hands tasks to idle workers, tries again what was lost with a worker, and bounds every wait."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ._crew import CannotStart, Crew, Limits, Manning, Member
from ._errors import one_line
from ._worker import Answer

UNAVAILABLE = "Unavailable:"
"""How an error begins that is no task's fault: the pool has no worker left."""


class Broker:
    """One queue for everybody who holds the pool's handle.

    It is on the driver's node: one that dies with its driver costs nothing that the driver's end has not cost already.
    Where its process alone dies, Ray starts it again and repeats the calls under way, so its tasks begin anew.
    """

    def __init__(self, manning: Manning, limits: Limits) -> None:
        self._limits = limits
        self._crew = Crew(manning, limits)
        self._opened = self._closed = False
        self._done = self._failed = 0
        self._retried = self._overdue = 0

    async def start(self) -> None:
        """Start the first workers and wait for them.

        Raises:
            TimeoutError, RuntimeError: one did not start; one line.
        """
        self._opened = True
        try:
            await self._crew.open()
        except CannotStart as error:
            self._crew.close()
            kind = TimeoutError if "did not start within" in str(error) else RuntimeError
            raise kind(str(error)) from None

    async def run(self, task: Any) -> Answer:
        """Run a task on the next idle worker, again where its worker or its worker's node is lost."""
        if not self._opened:  # this broker has replaced a lost one
            self._opened = True
            self._crew.reopen()
        lost: list[Member] = []
        while True:
            member = await self._crew.take()
            if member is None:
                why = self._crew.trouble or "all were lost"
                return None, f"{UNAVAILABLE} no worker is left: {why}", 0.0, ""
            start = time.monotonic()
            answer = await self._ask(member, task)
            self._crew.busy_s += time.monotonic() - start
            if answer is not None:
                return answer
            lost.append(member)
            if (failed := await self._given_up(lost)) is not None:
                self._failed += 1
                return failed
            self._retried += 1

    async def _given_up(self, lost: list[Member]) -> Answer | None:
        """The answer of a task that has lost too many workers; None: it is worth another.

        Whether a worker was lost with its node may be known a minute later only; it is waited for when it decides.
        """
        if len(lost) <= self._limits.retries:
            return None
        nodes = sum([await member.with_node for member in lost])
        deaths, why = len(lost) - nodes, lost[-1].lost.result()
        if deaths > self._limits.retries:
            return None, f"worker died {deaths} times on this task: {why}", 0.0, ""
        if nodes > self._limits.node_losses:
            return None, f"{nodes} nodes were lost under this task: {why}", 0.0, ""
        return None

    async def _ask(self, member: Member, task: Any) -> Answer | None:
        """A worker's answer; None if it was lost over the task."""
        import ray

        answer = asyncio.ensure_future(_awaitable(member.actor.run.remote(task)))
        done, _ = await asyncio.wait(
            {answer, member.lost}, timeout=self._limits.task_s, return_when=asyncio.FIRST_COMPLETED
        )
        if answer in done:
            try:
                value: Answer = answer.result()
            except ray.exceptions.RayTaskError as error:  # an answer that cannot be sent
                value = None, one_line(error), 0.0, ""
            except ray.exceptions.RayError as error:
                self._crew.lose(member, one_line(error), error)
                return None
            member.done += 1
            self._done += 1
            self._failed += value[1] is not None
            self._crew.give(member)
            return value
        answer.cancel()
        if member.gone:
            return None
        limit = self._limits.task_s
        self._overdue += 1
        self._failed += 1
        self._crew.lose(member, f"no answer within {limit:g} s")
        return None, f"TimeoutError: no answer within {limit:g} s", limit, ""

    async def size(self) -> int:
        """Workers that are there, at least those of a full crew."""
        return max(self._crew.manning.least, len(self._crew.members))

    async def stats(self) -> dict[str, Any]:
        """What the pool is doing and has done; events since the last call go with it, and are not told again.

        `busy_s` and `present_s` are sums over workers since the start: their ratio is the utilisation.
        """
        crew, now = self._crew, time.monotonic()
        events = [crew.events.popleft() for _ in range(len(crew.events))]
        return {
            "workers": len(crew.members),
            "nodes": len({member.at.node for member in crew.members.values()}),
            "idle": crew.idle,
            "waiting": crew.waiting,
            "done": self._done,
            "failed": self._failed,
            "retried": self._retried,
            "overdue": self._overdue,
            "lost_workers": crew.lost_workers,
            "lost_nodes": crew.lost_nodes,
            "busy_s": crew.busy_s,
            "present_s": crew.present_s + sum(now - member.since for member in crew.members.values()),
            "events": events,
        }

    async def pids(self) -> tuple[int, ...]:
        """Process ids of the idle workers."""
        return tuple(member.at.pid for member in self._crew.idle_members())

    async def pid(self) -> int:
        """Of the broker itself."""
        import os

        return os.getpid()

    async def close(self) -> None:
        """End every worker."""
        self._crew.close()


async def _awaitable(reference: Any) -> Any:
    return await reference
