"""An S3 server of this machine, as a process of its own that can be killed and started again on the same port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import requests

LIMIT_S = 60.0
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret", "AWS_DEFAULT_REGION": "us-east-1"}


class Server:
    """`url` of its endpoint; its objects live as long as its process."""

    def __init__(self, log: Path, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._log, self._environment = log, environment
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """What a client is told."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.url}

    def start(self) -> None:
        with self._log.open("ab") as output:
            program = str(Path(__file__).with_name("s3_process.py"))
            command = [sys.executable, program, "-H", "127.0.0.1", "-p", str(self.port)]
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **self._environment}
            )
        deadline = time.monotonic() + LIMIT_S
        while True:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, f"no S3 server within {LIMIT_S} s:\n{self._log.read_text()}"
            try:
                requests.get(f"{self.url}/moto-api/", timeout=5)
                return
            except requests.ConnectionError:
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)

    def pause(self) -> None:
        """Stop answering, as a network that is gone does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def make(self, bucket: str) -> None:
        self.client().create_bucket(Bucket=bucket)

    def client(self, service: str = "s3", **keys: str) -> Any:
        """Amazon's own client of this server."""
        known = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing-secret", **keys}
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **known)


@contextmanager
def server(log: Path, **environment: str) -> Iterator[Server]:
    here = Server(log, **environment)
    try:
        yield here
    finally:
        here.resume()
        here.stop()
