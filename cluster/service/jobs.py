"""Jobs as values, and the states that they pass through.

    QUEUED -> STARTING -> RUNNING -> DONE | FAILED
      ^           |          |
      +-----------+----------+      an attempt failed, or its cluster is gone: again, after a pause
    QUEUED | STARTING | RUNNING -> CANCELLING -> CANCELLED

A state is written before what it announces is done, so that a service that is killed in between finds what to look for:
a STARTING job may or may not be known to Ray, under a name that is always the same (`submission`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

QUEUED, STARTING, RUNNING, CANCELLING = "QUEUED", "STARTING", "RUNNING", "CANCELLING"
DONE, FAILED, CANCELLED = "DONE", "FAILED", "CANCELLED"
STATES = (QUEUED, STARTING, RUNNING, CANCELLING, DONE, FAILED, CANCELLED)
ENDED = (DONE, FAILED, CANCELLED)
HOLDING = (STARTING, RUNNING, CANCELLING)
"""States in which a job holds resources of the cluster."""


@dataclass(frozen=True)
class Job:
    """One row; times are Unix seconds, `attempt` counts from 1 and is 0 before the first start."""

    id: str
    number: int
    owner: str
    name: str
    recipe: str = field(repr=False)
    directory: str
    digest: str
    idempotency: str | None
    priority: int
    cpus: float
    gpus: float
    candidates: int
    state: str
    reason: str
    attempt: int
    not_before: float
    progress: Mapping[str, Any]
    created: float
    started: float | None
    finished: float | None

    @property
    def submission(self) -> str:
        """The name of this attempt as a Ray job."""
        return f"mergefront-{self.id}-{self.attempt}"


@dataclass(frozen=True)
class Export:
    """A checkpoint of one point that somebody asked for; it holds one CPU while it is made."""

    job: str
    point: str
    state: str
    reason: str
    attempt: int
    created: float
    finished: float | None

    @property
    def submission(self) -> str:
        """The name of this attempt as a Ray job."""
        return f"mergefront-{self.job}-export-{self.point}-{self.attempt}"


@dataclass(frozen=True)
class Event:
    """A change of state, and why."""

    at: float
    state: str
    reason: str


def job_of(row: Mapping[str, Any]) -> Job:
    """A row of `tables.JOBS` as a value."""
    return Job(**{**row, "progress": json.loads(row["progress"])})


def too_large(job: Job, total: tuple[float, float]) -> bool:
    """Whether a job needs more than all (CPUs, GPUs) of the cluster."""
    return job.cpus > total[0] + 1e-9 or job.gpus > total[1] + 1e-9


def next_jobs(
    queued: Sequence[Job], held: Sequence[tuple[float, float]], total: tuple[float, float], slots: int, now: float
) -> tuple[Job, ...]:
    """The jobs to start now.

    Strictly by priority, then by age: a job that does not fit holds back those behind it, since a stream of small jobs
    would otherwise keep a large one waiting for ever. A job in the pause after a failure holds nobody back, and neither
    does one that is larger than the cluster.

    Args:
        queued: jobs in state QUEUED.
        held: (CPUs, GPUs) of every job that holds resources.
        total: (CPUs, GPUs) of the cluster.
        slots: how many may still be started.
        now: Unix seconds.
    """
    cpus, gpus = total[0] - sum(c for c, _ in held), total[1] - sum(g for _, g in held)
    chosen: list[Job] = []
    for job in sorted(queued, key=lambda job: (-job.priority, job.number)):
        if job.not_before > now or too_large(job, total):
            continue
        if len(chosen) >= slots or job.cpus > cpus + 1e-9 or job.gpus > gpus + 1e-9:
            break
        cpus, gpus = cpus - job.cpus, gpus - job.gpus
        chosen.append(job)
    return tuple(chosen)
