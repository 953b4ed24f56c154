"""A pool of stateful worker actors behind one queue.

A broker actor owns the workers and the queue; any process that holds the pool's handle submits to it. So several
searches share the same workers first come, first served, no worker waits while there is work, and a dead or hung worker
is replaced in one place. Candidates cost milliseconds of overhead here, where a Tune trial costs seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

from ._broker import Broker
from ._crew import Limits as Limits
from ._crew import Manning
from ._errors import InputError, WorkersFailed
from ._place import beside_the_driver as beside_the_driver
from ._place import here_only
from ._worker import Factory as Factory

BROKER_RESTARTS = 3
CLOSE_S = 20.0
SIZE_GOOD_S = 5.0
MANY = 10**5


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

    @property
    def grows(self) -> bool:
        """Whether `size` may change."""
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


class RayPool:
    """A client of the broker; picklable, each copy keeps tickets of its own."""

    def __init__(self, broker: Any, least: int, most: int, manning: Manning | None = None) -> None:
        self._broker, self._least, self._most = broker, least, most
        self._manning = manning  # the driver's copy owns what later workers are made from, and their places
        self._flying: dict[Any, Hashable] = {}
        self._known = (-SIZE_GOOD_S, least)

    def __reduce__(self) -> tuple[Any, ...]:
        return RayPool, (self._broker, self._least, self._most)

    @property
    def size(self) -> int:
        """Number of workers; one that grows is asked, every few seconds at most."""
        import ray

        asked, count = self._known
        now = time.monotonic()
        if self._most == self._least or now - asked < SIZE_GOOD_S:
            return count
        # A broker that is being started again does not answer: what was known is good enough.
        with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            count = int(ray.get(self._broker.size.remote(), timeout=CLOSE_S))
        self._known = now, count
        return count

    @property
    def grows(self) -> bool:
        """Whether `size` may change."""
        return self._most > self._least

    def submit(self, ticket: Hashable, task: Any) -> None:
        """Queue a task at the broker."""
        self._flying[self._broker.run.remote(task)] = ticket

    def collect(self, timeout_s: float) -> tuple[Outcome, ...]:
        """Wait for at least one outcome (see `Pool.collect`).

        Raises:
            WorkersFailed: the broker was lost more often than Ray starts it again.
        """
        import ray

        if not self._flying:
            return ()
        flying = list(self._flying)
        ready, later = ray.wait(flying, num_returns=1, timeout=timeout_s)
        if not ready:
            raise TimeoutError(f"no task of {len(flying)} under way ended within {timeout_s:g} s")
        if later:
            ready += ray.wait(later, num_returns=len(later), timeout=0)[0]
        outcomes = []
        for reference in ready:
            ticket = self._flying.pop(reference)
            try:
                value, error, seconds, trace = ray.get(reference)
            except ray.exceptions.RayActorError:
                raise WorkersFailed("the broker of the evaluator actors was lost, and could not be replaced") from None
            outcomes.append(Outcome(ticket, value, error, seconds, trace))
        return tuple(outcomes)

    def stats(self) -> dict[str, Any]:
        """What the pool is doing and has done (`Broker.stats`)."""
        import ray

        found: dict[str, Any] = ray.get(self._broker.stats.remote(), timeout=CLOSE_S)
        return found

    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the idle workers."""
        import ray

        return tuple(ray.get(self._broker.pids.remote(), timeout=60))

    def broker_pid(self) -> int:
        """Process id of the broker."""
        import ray

        return int(ray.get(self._broker.pid.remote(), timeout=60))

    def close(self) -> None:
        """End the workers, what they may still do included, then the broker, and give their places back."""
        import ray
        from ray.util.placement_group import remove_placement_group

        with contextlib.suppress(ray.exceptions.RayError):  # hung or dead: its workers end with it
            ray.get(self._broker.close.remote(), timeout=CLOSE_S)
        ray.kill(self._broker)
        if self._manning is not None:
            remove_placement_group(self._manning.group)
            self._manning = None
        if self.grows:
            _ask_for({}, 0)


def open_pool(
    factory: Factory,
    *,
    actors: int,
    cpus: float,
    most: int | None = None,
    gpus: float = 0.0,
    elastic: bool = False,
    limits: Limits | None = None,
    **times: float,
) -> RayPool:
    """Start workers over the nodes of the running Ray session, each holding `cpus` and `gpus`.

    Args:
        factory: picklable; called once in every worker, returns the callable that answers tasks.
        actors: number of workers that must start.
        cpus: CPU share of each.
        most: number of workers up to which more are started while tasks wait and a node has room; `actors` by default.
        gpus: GPU share of each; Ray gives no memory isolation below 1.
        elastic: the cluster adds nodes on demand, so that what it lacks now is waited for.
        limits: times and tries.
        times: `start_timeout_s`, `task_timeout_s` and `retries`, in place of `limits`.

    Raises:
        InputError: the cluster can never hold the workers.
        TimeoutError: they did not start in time; names what is free.
    """
    import ray

    from .fits import check_fits

    names = {"start_timeout_s": "start_s", "task_timeout_s": "task_s", "retries": "retries"}
    limits = limits or Limits(**{names[name]: value for name, value in times.items()})  # type: ignore[arg-type]
    most = actors if most is None else most
    if actors < 1:
        raise InputError(f"cluster.evaluators.actors: must be at least 1, got {actors}")
    if most < actors:
        raise InputError(f"cluster.evaluators.actors: max must be at least min ({actors}), got {most}")
    bundle = {kind: amount for kind, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    if not elastic:
        check_fits([{"CPU": cpus, "GPU": gpus}] * actors, "cluster.evaluators")
    group = _reserve(bundle, actors, limits.start_s)
    held = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0}
    manning = Manning(ray.cloudpickle.dumps(ray.put(factory)), actors, most, held, group)
    options = {"num_cpus": 0, "max_concurrency": MANY, "max_restarts": BROKER_RESTARTS, "max_task_retries": -1}
    broker = ray.remote(Broker).options(**options, scheduling_strategy=here_only()).remote(manning, limits)
    pool = RayPool(broker, actors, most, manning)
    try:
        ray.get(broker.start.remote(), timeout=limits.start_s + 60)
    except ray.exceptions.RayError as error:
        free = _free()
        pool.close()
        cause = getattr(error, "cause", None) or error
        kind = TimeoutError if isinstance(cause, TimeoutError) else RuntimeError
        raise kind(f"cluster.evaluators: {cause}; free now: {free}") from None
    if pool.grows and elastic:
        _ask_for(bundle, most)
    return pool


def _reserve(bundle: dict[str, float], count: int, limit_s: float) -> Any:
    """The places of all workers that must start, spread over the nodes: all or none.

    Raises:
        TimeoutError: others hold them.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([bundle] * count, strategy="SPREAD")
    if not group.wait(limit_s):
        free = _free()
        remove_placement_group(group)
        needs = " and ".join(f"{amount:g} {kind}" for kind, amount in bundle.items())
        said = f"{count} workers with {needs} each found no place within {limit_s:g} s; free now: {free}"
        raise TimeoutError(f"cluster.evaluators: {said} of {len(ray.nodes())} nodes")
    return group


def _free() -> dict[str, float]:
    import ray

    return {kind: value for kind, value in ray.available_resources().items() if kind in ("CPU", "GPU")}


def _ask_for(bundle: dict[str, float], count: int) -> None:
    """Tell an autoscaler how many workers there may be; without one, nobody listens."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[bundle] * min(count, 10_000) if count else [])
