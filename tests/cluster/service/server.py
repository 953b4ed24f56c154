"""A real service process for tests: started, asked, killed, started again."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from cluster.client import Client

START_S, ANSWER_S = 240.0, 240.0
NOWHERE = "http://127.0.0.1:9"
"""A cluster that never answers: jobs are accepted and wait."""


def until(what: str, found: Any, limit_s: float = 240.0, pause_s: float = 0.2) -> Any:
    """The first true value of `found()`; the test fails, naming `what`, where there is none in time."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(pause_s)
    raise AssertionError(f"{what}: not within {limit_s:g} s")


@dataclass
class Running:
    """A service in `state`, on one port over all its starts."""

    state: Path
    arguments: tuple[str, ...]
    port: int
    process: subprocess.Popen[bytes] | None = None
    token: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.state.parent / f"{self.state.name}.log"

    def start(self) -> None:
        code = "from search.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", f"--port={self.port}", f"--state={self.state}", *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **self.environment}, start_new_session=True
            )
        until("the service answers", self._answers, START_S)
        found = re.search(r"MERGEFRONT_TOKEN=(\S+)", self.log.read_text())
        self.token = found[1] if found else ""

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return requests.get(f"{self.url}/health", timeout=5).json()["database"] is True
        except requests.RequestException:
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    def ask(self, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}", **options.pop("headers", {})}
        if token == "":
            headers.pop("Authorization")
        return requests.request(method, self.url + path, headers=headers, timeout=ANSWER_S, **options)

    def submit(
        self, recipe: str | bytes, directory: Path | None = None, token: str | None = None, **headers: str
    ) -> requests.Response:
        query = {} if directory is None else {"directory": str(directory)}
        body = recipe.encode() if isinstance(recipe, str) else recipe
        headers = {"Content-Type": "application/yaml", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.ask("POST", "/jobs", token, params=query, data=body, headers=headers)

    @property
    def client(self) -> Client:
        return Client(self.url, self.token)


@contextmanager
def service(state: Path, *arguments: str, **environment: str) -> Iterator[Running]:
    """A running service; it, and a cluster that it started, are ended at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Running(state, arguments, port, environment=environment)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()
        from cluster.service import head

        found = head.known(state)
        if found is not None:
            head.stop(found)


def problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """An answer that is a problem of this kind, in the shape that all have."""
    assert answer.status_code == status, answer.text[:1000]
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["type"] == f"urn:mergefront:{code}"
    assert told["status"] == status
    assert told["detail"]
    return told
