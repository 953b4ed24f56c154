"""What Prometheus is told."""

from __future__ import annotations

import contextlib
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .jobs import STATES

POOL = {
    "workers": ("mergefront_job_actors", "Evaluator actors of a job."),
    "waiting": ("mergefront_job_waiting", "Candidates of a job that wait for an actor."),
    "per_minute": ("mergefront_job_candidates_per_minute", "Candidates that a job scores in a minute."),
    "utilisation": ("mergefront_job_actor_utilisation", "Share of the actors' time that is spent on candidates."),
    "lost_workers": ("mergefront_job_lost_actors", "Evaluator actors lost in this attempt, their nodes alive."),
    "lost_nodes": ("mergefront_job_lost_nodes", "Evaluator actors lost in this attempt with their nodes."),
}


class Metrics:
    """The figures of one service; those of a job go when it ends."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Gauge("mergefront_jobs", "Jobs by state.", ["state"], registry=self.registry)
        self.cluster_up = Gauge("mergefront_cluster_up", "Whether the Ray cluster answers.", registry=self.registry)
        self.failures = Counter(
            "mergefront_attempts_failed", "Attempts of jobs that failed, by cause.", ["cause"], registry=self.registry
        )
        self.failed_steps = Counter(
            "mergefront_supervisor_failed_steps", "Steps of the supervisor that failed.", registry=self.registry
        )
        self.scored = Counter(
            "mergefront_points_scored", "Points scored; its rate is points per second.", registry=self.registry
        )
        self.open_streams = 0
        streams = Gauge("mergefront_log_streams", "Log streams that are open.", registry=self.registry)
        streams.set_function(lambda: self.open_streams)
        self._pool = {key: Gauge(*texts, ["job"], registry=self.registry) for key, texts in POOL.items()}
        self.failed = Counter(
            "mergefront_candidates_failed", "Candidates that failed, by cause.", ["cause"], registry=self.registry
        )
        self.requests = Histogram(
            "mergefront_request_seconds",
            "Time to the first byte of an answer.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
            registry=self.registry,
        )

    def progress(self, job: str, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Take in how far a job has come since the last look."""
        self.scored.inc(max(0, int(now["scored"]) - int(before.get("scored", 0))))
        known = before.get("failures", {})
        for cause, count in now.get("failures", {}).items():
            self.failed.labels(cause).inc(max(0, count - known.get(cause, 0)))
        for key, value in (now.get("pool") or {}).items():
            if value is not None:
                self._pool[key].labels(job).set(value)

    def ended(self, job: str) -> None:
        """Forget the figures of a job that does not run any more."""
        for gauge in self._pool.values():
            with contextlib.suppress(KeyError):
                gauge.remove(job)

    def text(self, counts: dict[str, int]) -> bytes:
        """Prometheus' text format; `counts` are jobs by state."""
        for state in STATES:
            self.jobs.labels(state).set(counts.get(state, 0))
        return generate_latest(self.registry)
