"""The loop that moves jobs on: looks at what Ray says, starts what fits, tries again what failed.

It holds no state of its own that matters: every step is decided from rows and from Ray, so that a new service after a
kill goes on where the old one was. One supervisor works on a state directory at a time (`server` holds its lock).
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from .._errors import WorkersFailed
from . import store
from .clusters import Clusters
from .domain import Domain
from .exporter import move_exports
from .jobs import CANCELLING, DONE, FAILED, HOLDING, QUEUED, RUNNING, STARTING, Job, next_jobs, too_large
from .launch import launch
from .logs import last_line
from .metrics import Metrics
from .ray_jobs import ClusterGone, Outcome, RayJobs, Rejected
from .settings import Settings
from .worker import Worker

LOG = logging.getLogger("mergefront.service")
TICK_S = 1.0
READ_S = 60.0
BAD_INPUT = 2
AWAY = "the cluster does not answer; the job goes on, or is started again, once it does"


class Supervisor:
    """Owns the thread; everything else is rows."""

    def __init__(self, settings: Settings, engine: sa.Engine, domain: Domain, metrics: Metrics) -> None:
        self._settings, self._engine, self._domain, self._metrics = settings, engine, domain, metrics
        self._reader = Worker("following a run")  # its own: a front that is being made holds nothing up
        self.clusters = Clusters(settings)
        self.begun, self.reached = time.monotonic(), False
        metrics.cluster_up.set_function(lambda: self.reached)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way; jobs go on."""
        self._end.set()
        self._reader.close()
        self._thread.join(READ_S)

    def _loop(self) -> None:
        while not self._end.is_set():
            self.begun = time.monotonic()
            try:
                self.tick()
            except (ClusterGone, WorkersFailed) as error:
                LOG.warning("the cluster does not answer: %s", error)
                self._away()
            except Exception as error:  # one step failed; the next may not: a full disk, a database that restarts
                LOG.error("step failed: %s: %s", type(error).__name__, str(error).splitlines()[:1])
                self._metrics.failed_steps.inc()
            self._end.wait(TICK_S)

    def _away(self) -> None:
        """Say it where people look; what runs on the cluster may well go on."""
        self.reached = False
        try:
            for job in store.jobs(self._engine, states=(QUEUED, *HOLDING)):
                store.explain(self._engine, job, AWAY)
        except sa.exc.SQLAlchemyError as error:
            LOG.error("the database does not answer either: %s", type(error).__name__)

    def tick(self) -> None:
        """One step: look at what runs, then start what fits."""
        ray = self.clusters.reach()
        total = self.clusters.resources(ray)
        self.reached = True
        for job in store.jobs(self._engine, states=HOLDING):
            self._look(job, ray)
        move_exports(self._engine, self._settings, self._domain, ray)
        self._start_what_fits(ray, total)

    def _look(self, job: Job, ray: RayJobs) -> None:
        found = ray.look(job.submission)
        if job.state == STARTING and found is None:
            self._launch(job, ray)  # the service ended between its row and Ray's
            return
        if job.state == CANCELLING:
            if found is None or found.ended:
                self._read_progress(job)
                self._metrics.ended(job.id)
                store.change(self._engine, job, "CANCELLED", "cancelled while it ran; `mergefront run` goes on with it")
            else:
                ray.stop(job.submission)
            return
        if found is None:
            self._again(job, "cluster", "the cluster that ran it is gone")
        elif not found.ended:
            store.explain(self._engine, job, "")
            if job.state == STARTING and found.status == "RUNNING":
                store.change(self._engine, job, RUNNING, started=job.started or time.time())
            self._read_progress(job)
        else:
            self._ended(job, found)

    def _ended(self, job: Job, found: Outcome) -> None:
        self._read_progress(job)
        self._metrics.ended(job.id)
        if found.status == "SUCCEEDED":
            store.change(self._engine, job, DONE)
            LOG.info("job %s is done", job.id, extra={"job": job.id, "attempt": job.attempt})
            return
        said = last_line(self._settings.job(job.id) / "log.txt")
        if found.exit_code == BAD_INPUT:
            self._metrics.failures.labels("bad input").inc()
            store.change(self._engine, job, FAILED, said or found.message[:300])
        elif found.status == "STOPPED":
            self._again(job, "stopped", "it was stopped on the cluster, not by this service")
        else:
            status = f"exit status {found.exit_code}" if found.exit_code is not None else found.message[:200]
            self._again(job, "run failed", f"{status}{': ' + said if said else ''}")

    def _again(self, job: Job, cause: str, reason: str) -> None:
        """Back into the queue after a pause, or FAILED at the limit."""
        self._metrics.ended(job.id)
        self._metrics.failures.labels(cause).inc()
        limits = self._settings.limits
        if job.attempt >= limits.attempts:
            remedy = f"that was attempt {job.attempt} of {limits.attempts}; submit it again to go on"
            store.change(self._engine, job, FAILED, f"{reason}; {remedy}")
            LOG.info("job %s failed: %s", job.id, reason, extra={"job": job.id, "cause": cause})
            return
        pause = limits.pause_s * 2 ** (job.attempt - 1)
        text = f"attempt {job.attempt} of {limits.attempts} ended: {reason}; what ran is kept"
        store.change(self._engine, job, QUEUED, text, not_before=time.time() + pause)
        LOG.info("job %s: %s", job.id, text, extra={"job": job.id, "attempt": job.attempt, "cause": cause})

    def _start_what_fits(self, ray: RayJobs, total: tuple[float, float]) -> None:
        queued = store.jobs(self._engine, states=(QUEUED,))
        if not queued:
            return
        holding = store.jobs(self._engine, states=HOLDING)
        making = len(store.exports(self._engine, states=(STARTING, RUNNING)))
        held = [(job.cpus, job.gpus) for job in holding] + [(1.0, 0.0)] * making
        slots = self._settings.running - len(holding)
        free = [job for job in queued if not job.attempt or not self._domain.busy(self._run(job))]
        chosen = next_jobs(free, held, total, slots, time.time())
        for job in chosen:
            if store.change(self._engine, job, STARTING, attempt=job.attempt + 1):
                moved = store.job_by_id(self._engine, job.id, None)
                if moved is not None and moved.state == STARTING:
                    self._launch(moved, ray)
        for job in queued:
            if too_large(job, total) and time.time() - job.created > self._settings.limits.shrunk_s:
                store.change(self._engine, job, FAILED, f"{waits_for(job, total)}; ask for less, or add nodes")
            elif job not in chosen and (not job.attempt or job.reason == AWAY):
                store.explain(self._engine, job, waits_for(job, total))

    def _launch(self, job: Job, ray: RayJobs) -> None:
        try:
            launch(job, self._settings, self._domain, ray)
            ids = {"job": job.id, "attempt": job.attempt}
            LOG.info("job %s: attempt %d submitted as %s", job.id, job.attempt, job.submission, extra=ids)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self._again(job, "not started", str(error))
                return
            # No attempt is spent: it is STARTING, and launched again by the next step.
            LOG.error("job %s: no room in %s to start it", job.id, self._settings.state, extra={"job": job.id})
        except Rejected as error:
            self._again(job, "not started", str(error))

    def _read_progress(self, job: Job) -> None:
        try:
            found = self._reader.call(self._domain.progress, self._run(job), limit_s=READ_S)
        except Exception as error:  # what a half-written run says is not worth a job
            LOG.warning("job %s: progress cannot be read: %s", job.id, error, extra={"job": job.id})
            return
        if found is not None and found != job.progress:
            self._metrics.progress(job.id, dict(job.progress), found)
            store.keep_progress(self._engine, job, found)

    def _run(self, job: Job) -> Path:
        return self._settings.job(job.id) / "run"


def waits_for(job: Job, total: tuple[float, float]) -> str:
    """Why a job is not running yet."""
    if too_large(job, total):
        return f"needs {job.cpus:g} CPUs and {job.gpus:g} GPUs; the cluster has {total[0]:g} and {total[1]:g} in all"
    return f"waits for {job.cpus:g} CPUs{f' and {job.gpus:g} GPUs' if job.gpus else ''} that others hold"
