"""Ray's job API over HTTP: submit, look, stop, and what the cluster has.

Plain HTTP and not `ray.job_submission`: importing Ray takes seconds and 150 MB of a process that needs four requests.
The API is Ray's documented one (REST under /api/jobs/, Ray 2.60).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

CALL_S = 20.0


class ClusterGone(RuntimeError):
    """The cluster does not answer; what it ran may still be running."""


class Rejected(RuntimeError):
    """The cluster answers and does not take the job."""


@dataclass(frozen=True)
class Outcome:
    """What Ray says of a job: `status` is PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED; `exit_code` once known."""

    status: str
    message: str
    exit_code: int | None

    @property
    def ended(self) -> bool:
        """Whether its process is gone."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


@dataclass(frozen=True)
class RayJobs:
    """A cluster's job API at `url` (the dashboard), with its token ("" = it asks for none)."""

    url: str
    token: str = ""

    def alive(self) -> bool:
        """Whether the cluster answers."""
        try:
            return self._call("GET", "/api/version").ok
        except ClusterGone:
            return False

    def resources(self) -> tuple[float, float]:
        """CPUs and GPUs of all nodes that are alive.

        Raises:
            ClusterGone: it does not answer.
        """
        answer = self._json(
            self._call(
                "GET", "/api/v0/nodes?limit=10000&detail=1&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
            )
        )
        nodes = answer["data"]["result"]["result"]
        totals = [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]
        return sum(t.get("CPU", 0.0) for t in totals), sum(t.get("GPU", 0.0) for t in totals)

    def submit(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        """Start a shell command under a name; one that Ray knows already is left as it is.

        Raises:
            ClusterGone: it does not answer, or not yet.
            Rejected: it does not take the job.
        """
        body = {
            "entrypoint": command,
            "submission_id": name,
            "runtime_env": {"env_vars": dict(environment)},
            "metadata": {"submitted_by": "mergefront"},
        }
        answer = self._call("POST", "/api/jobs/", body)
        if answer.ok or "already exists" in answer.text:
            return
        last = (answer.text.strip().splitlines() or [""])[-1] if answer.status_code != 500 else _cause(answer.text)
        # The dashboard hands a job to an agent; of a cluster that has just started it may not answer yet. No attempt is
        # spent on that: whether Ray has taken the job after all is seen under its name.
        if "No available agent" in answer.text or "aiohttp.client_exceptions" in answer.text:
            raise ClusterGone(f"{self.url}: {last}")
        raise Rejected(f"the cluster does not take the job: {last[:300]}")

    def look(self, name: str) -> Outcome | None:
        """What became of a job; None if this cluster never had it.

        Raises:
            ClusterGone: it does not answer.
        """
        answer = self._call("GET", f"/api/jobs/{name}")
        if answer.status_code == 404:
            return None
        found = self._json(answer)
        return Outcome(found["status"], found.get("message") or "", found.get("driver_exit_code"))

    def stop(self, name: str) -> None:
        """End a job: SIGTERM to its processes, SIGKILL three seconds later; nothing if it has ended.

        Raises:
            ClusterGone: it does not answer.
        """
        self._call("POST", f"/api/jobs/{name}/stop", {})

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=CALL_S)
        except requests.RequestException as error:
            raise ClusterGone(f"{self.url}: {type(error).__name__}") from None
        if answer.status_code in (401, 403):
            raise ClusterGone(f"{self.url}: it refuses our token; set RAY_AUTH_TOKEN to that of the cluster")
        return answer

    def _json(self, answer: requests.Response) -> dict[str, Any]:
        try:
            found = answer.json() if answer.ok else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ClusterGone(f"{self.url}: answered with status {answer.status_code}")
        return found


def _cause(traceback: str) -> str:
    """The line of Ray's traceback that says what was wrong."""
    lines = [line.strip() for line in traceback.splitlines() if line.strip(" .")]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "no reason given")
