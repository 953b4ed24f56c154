"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .jobs import STATES


class Metrics:
    """The figures of one service."""

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
        self.requests = Histogram(
            "mergefront_request_seconds",
            "Time to the first byte of an answer.",
            ["method", "route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
            registry=self.registry,
        )

    def text(self, counts: dict[str, int]) -> bytes:
        """Prometheus' text format; `counts` are jobs by state."""
        for state in STATES:
            self.jobs.labels(state).set(counts.get(state, 0))
        return generate_latest(self.registry)
