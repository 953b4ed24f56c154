"""A Ray cluster of this machine for the service: a process of its own, so that jobs outlive the service.

Its address, token and process are kept in `state/ray.json` (readable by its owner alone): the next service finds it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from .._errors import WorkersFailed
from ..session import ENVIRONMENT, OBJECT_STORE_BYTES, machine_cpus
from .ray_jobs import ClusterGone, RayJobs

STOP_S = 40.0  # Ray drains for up to 30


@dataclass(frozen=True)
class Head:
    """A head process: `pid` and when it was `started` name it, whatever has become of the number since.

    Ray's own files lie in `folder`, which goes with it.
    """

    url: str
    token: str
    pid: int
    started: float
    folder: str

    @property
    def jobs(self) -> RayJobs:
        """Its job API."""
        return RayJobs(self.url, self.token)

    def runs(self) -> bool:
        """Whether the process is there."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """The process, or None if it has ended."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if same else None


def known(state: Path) -> Head | None:
    """The cluster that an earlier service started here, alive or not."""
    try:
        return Head(**json.loads((state / "ray.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def start(state: Path, cpus: int | None, limit_s: float) -> Head:
    """Start a cluster and wait until it takes jobs.

    Args:
        state: the service's directory.
        cpus: that it offers; all by default.
        limit_s: how long to wait.

    Raises:
        WorkersFailed: it ended, or did not answer in time; its log says why.
    """
    port, token, log = _free_port(), secrets.token_hex(32), state / "ray.log"
    # Ray's sockets lie below its folder, and a socket's path has at most 107 characters: not below `state`.
    folder = tempfile.mkdtemp(prefix="mergefront-ray-")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--port=0", f"--num-cpus={cpus or machine_cpus()}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
    # The agent's usual port is fixed: a second cluster on the machine would take jobs from nobody.
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--dashboard-agent-listen-port=0"]
    command += [f"--temp-dir={folder}"]
    environment = {**os.environ, **ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    environment.pop("RAY_ADDRESS", None)
    with log.open("ab") as file:
        # A session of its own: a signal to the service's terminal does not reach it.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    head = Head(f"http://127.0.0.1:{port}", token, process.pid, psutil.Process(process.pid).create_time(), folder)
    _keep(state / "ray.json", head)
    deadline = time.monotonic() + limit_s
    while not _ready(head.jobs):
        if process.poll() is not None:
            shutil.rmtree(folder, ignore_errors=True)
            raise WorkersFailed(f"the Ray cluster ended with status {process.returncode}; {log} says why")
        if time.monotonic() > deadline:
            stop(head)
            raise WorkersFailed(f"the Ray cluster did not answer within {limit_s:g} s; {log} says why")
        time.sleep(0.3)
    return head


def stop(head: Head) -> None:
    """End the cluster, and every job on it."""
    process = head.process()
    if process is not None:
        family = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, STOP_S)
        for one in left:
            one.kill()
    shutil.rmtree(head.folder, ignore_errors=True)


def _ready(jobs: RayJobs) -> bool:
    """Whether it takes jobs: the dashboard answers some seconds before the first node has joined."""
    try:
        return jobs.alive() and jobs.resources() != (0.0, 0.0)
    except ClusterGone:
        return False


def _keep(path: Path, head: Head) -> None:
    partial = path.with_name(".ray.json.part")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(asdict(head)))
    partial.replace(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
