"""Which cluster jobs go to: a running one, or one of this machine that the service starts and finds again."""

from __future__ import annotations

import logging
import math
import os
import time

from . import head
from .ray_jobs import ClusterGone, RayJobs
from .settings import Settings

LOG = logging.getLogger("mergefront.service")
FRESH_S = 15.0  # nodes join within tens of seconds at best


class Clusters:
    """The cluster of a service. Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._silent_since: float | None = None
        self._total: tuple[float, float] = (0.0, 0.0)
        self._asked = -math.inf

    def reach(self) -> RayJobs:
        """The job API of the cluster; one of this machine is started where there is none.

        Raises:
            ClusterGone: it does not answer (yet).
            WorkersFailed: it could not be started.
        """
        if self._settings.cluster != "local":
            running = RayJobs(self._settings.cluster.rstrip("/"), os.environ.get("RAY_AUTH_TOKEN", ""))
            if not running.alive():
                raise ClusterGone(f"{running.url}: no Ray dashboard answers there, or it refuses RAY_AUTH_TOKEN")
            return running
        found = head.known(self._settings.state)
        if found is not None and found.runs():
            if found.jobs.alive():
                self._silent_since = None
                return found.jobs
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since < self._settings.limits.cluster_s:
                raise ClusterGone(f"{found.url}: silent for {now - self._silent_since:.0f} s")
            LOG.warning("the cluster at %s is silent for too long: it is ended, and a new one started", found.url)
            head.stop(found)
        elif found is not None:
            head.stop(found)  # it has ended by itself; its files have not
        self._silent_since, self._asked = None, -math.inf
        started = head.start(self._settings.state, self._settings.cpus, self._settings.limits.cluster_s)
        LOG.info("started a Ray cluster at %s (process %d)", started.url, started.pid)
        return started.jobs

    def resources(self, ray: RayJobs) -> tuple[float, float]:
        """CPUs and GPUs that jobs share, at most a few seconds old; no bound where the cluster is elastic.

        Raises:
            ClusterGone: it does not answer, or has no nodes yet.
        """
        if self._settings.elastic:
            return math.inf, math.inf
        if time.monotonic() - self._asked > FRESH_S:
            total = ray.resources()
            if total == (0.0, 0.0):
                raise ClusterGone("its nodes have not joined yet")
            self._total, self._asked = total, time.monotonic()
        return self._total

    def last_known(self) -> tuple[float, float] | None:
        """What `resources` said last; None where nothing is known or nothing is fixed."""
        if self._settings.elastic or self._asked == -math.inf:
            return None
        return self._total
