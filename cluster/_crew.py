"""The workers of a pool: started in their places, watched, replaced when lost, more of them where there is room.

Each seat is a loop: start a worker, hand it out, wait until it is lost, start again after a pause that grows while its
workers do not finish anything. The first seats have a bundle of a placement group each, taken all at once over the
nodes (SPREAD): two runs that start together never hold half of a cluster each and wait for the other half, and a lost
worker's place is nobody else's. Further seats take what is free, and give it back when there is nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from ._errors import one_line
from ._place import is_alive, room
from ._worker import HEALTH, Whereabouts, Worker

PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
GROW_EVERY_S = 3.0
EVENTS = 1000
NODE_S = 90.0
"""By then Ray has found a dead node (signs of life every 3 s, 5 of them missed, 10 s for each)."""


@dataclass(frozen=True)
class Limits:
    """Times and tries of a pool.

    Attributes:
        start_s: for one worker to be ready.
        patience_s: for which tasks wait while there is no worker at all.
        task_s: for one task.
        ping_every_s, ping_s: how often a worker is asked whether it lives, and how long it may take to answer.
        retries: times that a task is tried again when its worker dies.
        node_losses: times that it is tried again when its worker's node dies, which says little about the task: a task
            that loses more nodes than that is taken for the cause.
        idle_s: after which an additional worker is given back.
    """

    start_s: float = 300.0
    patience_s: float = 300.0
    task_s: float = 3600.0
    ping_every_s: float = 10.0
    ping_s: float = 120.0
    retries: int = 1
    node_losses: int = 5
    idle_s: float = 120.0


@dataclass(frozen=True)
class Manning:
    """Who makes up a pool: `least` workers in the bundles of `group`, at most `most`, each with Ray's `options`.

    `factory` is a pickled reference to what every worker is given, which the driver owns: it comes to each node once,
    and is there for workers and brokers that are started later. A plain reference among an actor's arguments may be
    dropped once the actor has it (ray #53727); a pickled one is kept as long as the driver lives.
    """

    factory: bytes
    least: int
    most: int
    options: dict[str, Any]
    group: Any

    @property
    def worker(self) -> dict[str, float]:
        """What a worker holds, by resource."""
        return {"CPU": self.options["num_cpus"], "GPU": self.options["num_gpus"]}


class Member:
    """A worker that has started.

    `lost` is set once, with the reason, as soon as it does not answer; `with_node` later, with whether its node was
    lost: Ray notices a broken connection at once, and a dead node after missing several of its signs of life.
    """

    def __init__(self, seat: int, actor: Any, at: Whereabouts) -> None:
        self.seat, self.actor, self.at = seat, actor, at
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.with_node: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.done = 0
        self.since = self.idle_since = time.monotonic()

    @property
    def gone(self) -> bool:
        """Whether it is lost."""
        return self.lost.done()


class CannotStart(RuntimeError):
    """A worker that did not start; one line."""


class Crew:
    """Owns the workers; lives in the broker's event loop."""

    def __init__(self, manning: Manning, limits: Limits) -> None:
        self.manning, self.limits = manning, limits
        self.members: dict[int, Member] = {}
        self._idle: deque[Member] = deque()
        self._waiting: deque[asyncio.Future[Member | None]] = deque()
        self._seats: set[int] = set()
        self._starting = 0
        self._loops: set[asyncio.Task[None]] = set()
        self._empty_since = self._grow_again = time.monotonic()
        self.trouble = ""
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self.lost_workers = self.lost_nodes = 0
        self.busy_s = self.present_s = 0.0

    async def open(self) -> None:
        """Start the first workers and wait until each has built its callable.

        Raises:
            CannotStart: one of them did not.
        """
        seats = range(self.manning.least)
        started = await asyncio.gather(*(self._start(seat) for seat in seats), return_exceptions=True)
        for found in started:
            if isinstance(found, BaseException):
                raise found
        for member in started:
            assert isinstance(member, Member)
            self._spawn(self._hold(member.seat, member))
        self._tend()

    def reopen(self) -> None:
        """Start the first workers without waiting, after the broker itself was lost."""
        for seat in range(self.manning.least):
            self._spawn(self._hold(seat, None))
        self._tend()

    def _tend(self) -> None:
        self._spawn(self._mind())
        if self.manning.most > self.manning.least:
            self._spawn(self._grow())

    def close(self) -> None:
        """End every worker and every loop."""
        for loop in list(self._loops):
            loop.cancel()
        for member in list(self.members.values()):
            _kill(member.actor)
        self._release()

    async def take(self) -> Member | None:
        """The next idle worker, first come, first served; None when there is none and none comes."""
        while self._idle:
            member = self._idle.popleft()
            if not member.gone:
                return member
        if self._is_forsaken():
            return None
        turn: asyncio.Future[Member | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return await turn

    def give(self, member: Member) -> None:
        """Let a worker have its next task."""
        if member.gone:
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(member)
                return
        member.idle_since = time.monotonic()
        self._idle.append(member)

    def lose(self, member: Member, why: str, error: Exception | None = None) -> None:
        """Note that a worker is lost.

        Args:
            member: the worker.
            why: one line.
            error: by which Ray said so; None: it is ended here, because it takes too long.
        """
        if member.gone:
            return
        if error is None:
            _kill(member.actor)
        member.lost.set_result(why)
        self._note("worker lost", member, reason=why)
        self._spawn(self._judge(member, None if error is None else _with_node(error)))

    async def _judge(self, member: Member, node: bool | None) -> None:
        """Find out whether the node was lost as well, then end what may be left of the worker."""
        deadline = time.monotonic() + NODE_S
        while node is None:
            if not is_alive(member.at.node):
                node = True
            elif time.monotonic() > deadline:
                node = False
            else:
                node = await self._asked(member)
        _kill(member.actor)
        self.lost_nodes += node
        self.lost_workers += not node
        if node:
            self._note("node lost", member)
        member.with_node.set_result(node)

    async def _asked(self, member: Member) -> bool | None:
        """What a lost worker's own answer tells, a second later; None: nothing yet."""
        import ray

        await asyncio.sleep(1.0)
        try:
            ping = member.actor.ping.options(concurrency_group=HEALTH).remote()
            await asyncio.wait_for(_awaitable(ping), 5.0)
        except TimeoutError:
            return None
        except ray.exceptions.RayError as error:
            return _with_node(error)
        return False  # it lives: the connection alone was lost

    @property
    def waiting(self) -> int:
        """Tasks that wait for a worker."""
        return sum(not turn.done() for turn in self._waiting)

    @property
    def idle(self) -> int:
        """Workers without a task."""
        return sum(not member.gone for member in self._idle)

    def idle_members(self) -> list[Member]:
        """Workers without a task."""
        return [member for member in self._idle if not member.gone]

    async def _start(self, seat: int) -> Member:
        """A new worker that has built its callable."""
        import ray

        self._starting += 1
        worker = ray.remote(concurrency_groups={HEALTH: 1})(Worker).options(**self._options(seat))
        actor = worker.remote(ray.cloudpickle.loads(self.manning.factory))
        try:
            ready = _awaitable(actor.whereabouts.remote()), _awaitable(actor.ready.remote())
            at, _ = await asyncio.wait_for(asyncio.gather(*ready), self.limits.start_s)
        except TimeoutError:
            raise CannotStart(f"a worker did not start within {self.limits.start_s:g} s") from None
        except ray.exceptions.RayError as error:
            raise CannotStart(f"a worker could not start: {one_line(error)}") from None
        else:
            member = Member(seat, actor, at)
            actor = None
            return member
        finally:
            self._starting -= 1
            if actor is not None:
                _kill(actor)

    def _options(self, seat: int) -> dict[str, Any]:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if seat < self.manning.least:
            place = PlacementGroupSchedulingStrategy(self.manning.group, placement_group_bundle_index=seat)
            return {**self.manning.options, "scheduling_strategy": place}
        return {**self.manning.options, "scheduling_strategy": "SPREAD"}

    async def _hold(self, seat: int, member: Member | None) -> None:
        """Keep a worker in a seat; an additional seat is left when its worker is lost or has nothing to do."""
        self._seats.add(seat)
        failures = 0
        try:
            while True:
                if member is None:
                    try:
                        member = await self._start(seat)
                    except CannotStart as error:
                        self.trouble = str(error)
                        self._grow_again = time.monotonic() + PAUSES_S[-1]
                        self.events.append({"at": time.time(), "event": "worker not started", "reason": str(error)})
                if member is not None:
                    await self._serve(member)
                    failures = 0 if member.done else failures
                if seat >= self.manning.least:
                    return
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
                failures, member = failures + 1, None
        finally:
            self._seats.discard(seat)

    async def _serve(self, member: Member) -> None:
        """A worker from its start to its loss."""
        import ray

        self.members[member.seat] = member
        self._note("worker started", member)
        self.give(member)
        try:
            while True:
                await asyncio.wait({member.lost}, timeout=self.limits.ping_every_s)
                if member.gone:
                    break
                try:
                    ping = member.actor.ping.options(concurrency_group=HEALTH).remote()
                    await asyncio.wait_for(_awaitable(ping), self.limits.ping_s)
                except TimeoutError:
                    self.lose(member, f"did not answer for {self.limits.ping_s:g} s")
                except ray.exceptions.RayError as error:
                    self.lose(member, one_line(error), error)
        finally:
            now = time.monotonic()
            self.present_s += now - member.since
            self.members.pop(member.seat, None)
            if not self.members:
                self._empty_since = now

    async def _mind(self) -> None:
        """End the wait of tasks that no worker will take."""
        while True:
            await asyncio.sleep(min(1.0, self.limits.patience_s / 4))
            if self._is_forsaken():
                self._release()

    def _is_forsaken(self) -> bool:
        empty_s = 0.0 if self.members else time.monotonic() - self._empty_since
        return empty_s > self.limits.patience_s + (self.limits.start_s if self._starting else 0.0)

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    async def _grow(self) -> None:
        """Take seats where there is room and work, give them back where there is none."""
        while True:
            await asyncio.sleep(GROW_EVERY_S)
            wanted = min(self.manning.most - len(self._seats), self.waiting)
            if wanted > 0 and not self._starting and time.monotonic() > self._grow_again:
                for _ in range(min(wanted, room(self.manning.worker))):
                    seat = next(s for s in range(self.manning.least, self.manning.most) if s not in self._seats)
                    self._seats.add(seat)
                    self._spawn(self._hold(seat, None))
            over = time.monotonic() - self.limits.idle_s
            for member in list(self._idle):
                if member.seat >= self.manning.least and not self.waiting and member.idle_since < over:
                    self._idle.remove(member)
                    self._note("worker given back", member)
                    _kill(member.actor)
                    if not member.gone:
                        member.lost.set_result("given back")

    def _note(self, event: str, member: Member, **detail: Any) -> None:
        at = member.at
        self.events.append(
            {"at": time.time(), "event": event, "host": at.host, "node": at.node[:12], "pid": at.pid, **detail}
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._loops.add(task)  # the event loop itself holds tasks only weakly
        task.add_done_callback(self._loops.discard)


def _with_node(error: Exception) -> bool | None:
    """Whether a lost actor's node was lost; None where Ray does not know yet, or was told to end the actor."""
    text = str(error)
    if getattr(error, "preempted", False) or "node has died" in text:
        return True
    return False if "worker process has died" in text else None


def _kill(actor: Any) -> None:
    import ray

    ray.kill(actor)


async def _awaitable(reference: Any) -> Any:
    return await reference
