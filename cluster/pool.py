"""A pool of stateful worker actors behind one queue.

A broker actor owns the workers and the queue; any process that holds the pool's handle submits to it. So several
searches share the same workers first come, first served, no worker waits while there is work, and a dead or hung worker
is replaced in one place. Candidates cost milliseconds of overhead here, where a Tune trial costs seconds.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from ._errors import InputError, one_line

Factory = Callable[[], Callable[[Any], Any]]
"""Called once in every worker; what it returns is called with each task."""


class Outcome(NamedTuple):
    """What became of one task: exactly one of `value` and `error` is set.

    `seconds` is the time inside the worker (0 when the worker died); `error` is one line, `trace` the whole story.
    """

    ticket: Hashable
    value: Any
    error: str | None
    seconds: float
    trace: str = ""


class Pool(Protocol):
    """Where tasks run: on actors (`RayPool`) or in this process (`cluster.local.LocalPool`)."""

    @property
    def size(self) -> int:
        """Number of tasks that run at the same time."""
        ...

    def submit(self, ticket: Hashable, task: Any) -> None:
        """Queue a task; its outcome comes back under `ticket`."""
        ...

    def collect(self, timeout_s: float) -> tuple[Outcome, ...]:
        """Wait for at least one outcome; () when nothing is under way.

        Raises:
            TimeoutError: nothing ended within `timeout_s`.
        """
        ...


class Worker:
    """The actor body: builds its callable once, then answers tasks; a failing task is data, not a crash."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._call: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Build the callable; what the factory raises comes out of here, which an actor's `__init__` would hide."""
        self._call = self._factory()

    def run(self, task: Any) -> tuple[Any, str | None, float, str]:
        """Value or one-line error, seconds spent, traceback."""
        import time

        assert self._call is not None, "ready() comes first"
        start = time.perf_counter()
        try:
            return self._call(task), None, time.perf_counter() - start, ""
        except Exception as error:  # the boundary where any failure of a candidate becomes data
            return None, one_line(error), time.perf_counter() - start, traceback.format_exc()


class Broker:
    """The actor that hands tasks to idle workers, replaces the dead, and bounds every wait."""

    def __init__(
        self, factory: Factory, options: dict[str, Any], start_timeout_s: float, task_timeout_s: float, retries: int
    ) -> None:
        self._factory, self._options = factory, options
        self._start_timeout_s, self._task_timeout_s, self._retries = start_timeout_s, task_timeout_s, retries
        self._idle: asyncio.Queue[Any] = asyncio.Queue()
        self._alive = 0
        self._loss = ""
        self._revivals: set[asyncio.Task[None]] = set()

    async def start(self, count: int) -> None:
        """Start `count` workers and wait until each has built its callable."""
        for worker in await asyncio.gather(*(self._ready() for _ in range(count))):
            self._idle.put_nowait(worker)
        self._alive = count

    async def _ready(self) -> Any:
        """A new worker that has built its callable."""
        import ray

        worker = ray.remote(Worker).options(**self._options).remote(self._factory)
        try:
            await asyncio.wait_for(_awaitable(worker.ready.remote()), self._start_timeout_s)
        except TimeoutError:
            ray.kill(worker)
            raise TimeoutError(f"a worker did not start within {self._start_timeout_s:g} s") from None
        except ray.exceptions.RayTaskError as error:
            ray.kill(worker)
            raise RuntimeError(f"a worker could not start: {one_line(error)}") from None
        return worker

    async def _revive(self) -> None:
        """Put a new worker in the place of a dead one; three tries, a little longer apart each time."""
        for pause_s in (0.0, 2.0, 10.0):
            await asyncio.sleep(pause_s)
            try:
                self._idle.put_nowait(await self._ready())
                return
            except Exception as error:  # whatever keeps it from starting is told to the tasks that wait
                self._loss = str(error)
        self._alive -= 1
        if not self._alive:
            self._idle.put_nowait(None)  # nobody will come: tasks end with the reason instead of waiting

    def _replace(self) -> None:
        task = asyncio.ensure_future(self._revive())
        self._revivals.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._revivals.discard)

    async def run(self, task: Any) -> tuple[Any, str | None, float, str]:
        """Run a task on the next idle worker; retried on a fresh worker when its worker dies."""
        import ray

        for attempt in range(self._retries + 1):
            worker = await self._idle.get()
            if worker is None:
                self._idle.put_nowait(None)
                return None, f"no worker is left: {self._loss}", 0.0, ""
            try:
                result: tuple[Any, str | None, float, str] = await asyncio.wait_for(
                    _awaitable(worker.run.remote(task)), self._task_timeout_s
                )
            except TimeoutError:
                ray.kill(worker)
                self._replace()
                return None, f"TimeoutError: no answer within {self._task_timeout_s:g} s", self._task_timeout_s, ""
            except ray.exceptions.RayActorError as error:
                self._replace()
                if attempt == self._retries:
                    return None, f"worker died {attempt + 1} times on this task: {one_line(error)}", 0.0, ""
                continue
            self._idle.put_nowait(worker)
            return result
        raise AssertionError("the loop returns")

    async def pids(self) -> tuple[int, ...]:
        """Process ids of the idle workers (for tests and `doctor`)."""
        workers = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for worker in workers:
            self._idle.put_nowait(worker)
        return tuple([await _awaitable(worker.__ray_call__.remote(_pid)) for worker in workers])


def _pid(worker: Worker) -> int:
    import os

    return os.getpid()


async def _awaitable(reference: Any) -> Any:
    return await reference


class RayPool:
    """A client of the broker; picklable, each copy keeps tickets of its own."""

    def __init__(self, broker: Any, size: int) -> None:
        self._broker, self._size = broker, size
        self._flying: dict[Any, Hashable] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return RayPool, (self._broker, self._size)

    @property
    def size(self) -> int:
        """Number of workers."""
        return self._size

    def submit(self, ticket: Hashable, task: Any) -> None:
        """Queue a task at the broker."""
        self._flying[self._broker.run.remote(task)] = ticket

    def collect(self, timeout_s: float) -> tuple[Outcome, ...]:
        """Wait for at least one outcome (see `Pool.collect`)."""
        import ray

        if not self._flying:
            return ()
        ready, _ = ray.wait(list(self._flying), num_returns=1, timeout=timeout_s)
        if not ready:
            raise TimeoutError(f"no task of {len(self._flying)} under way ended within {timeout_s:g} s")
        outcomes = []
        for reference in ready:
            ticket = self._flying.pop(reference)
            value, error, seconds, trace = ray.get(reference)
            outcomes.append(Outcome(ticket, value, error, seconds, trace))
        return tuple(outcomes)

    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the idle workers."""
        import ray

        return tuple(ray.get(self._broker.pids.remote(), timeout=60))

    def close(self) -> None:
        """Stop the broker; its workers end with it."""
        import ray

        ray.kill(self._broker)


def open_pool(
    factory: Factory,
    *,
    actors: int,
    cpus: float,
    gpus: float = 0.0,
    start_timeout_s: float = 300.0,
    task_timeout_s: float = 3600.0,
    retries: int = 1,
) -> RayPool:
    """Start `actors` workers in the running Ray session, each holding `cpus` and `gpus`.

    Args:
        factory: picklable; called once in every worker, returns the callable that answers tasks.
        actors: number of workers.
        cpus: CPU share of each.
        gpus: GPU share of each; Ray gives no memory isolation below 1.
        start_timeout_s: longest wait for all workers to be ready.
        task_timeout_s: longest time for one task; a worker that exceeds it is killed and replaced.
        retries: times a task is tried again when its worker dies (tasks must be idempotent).

    Raises:
        InputError: the cluster can never hold the workers.
        TimeoutError: they did not start in time; names what is free.
    """
    import ray

    from .fits import check_fits

    if actors < 1:
        raise InputError(f"cluster.evaluators.actors: must be at least 1, got {actors}")
    check_fits([{"CPU": cpus, "GPU": gpus}] * actors, "cluster.evaluators")
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0}
    broker = ray.remote(Broker).options(num_cpus=0, max_concurrency=1000)
    broker = broker.remote(factory, options, start_timeout_s, task_timeout_s, retries)
    try:
        ray.get(broker.start.remote(actors), timeout=start_timeout_s + 60)
    except ray.exceptions.RayError as error:
        ray.kill(broker)
        free = {kind: value for kind, value in ray.available_resources().items() if kind in ("CPU", "GPU")}
        cause = getattr(error, "cause", None) or error
        kind = TimeoutError if isinstance(cause, TimeoutError) else RuntimeError
        raise kind(f"cluster.evaluators: {cause}; free now: {free}") from None
    return RayPool(broker, actors)
