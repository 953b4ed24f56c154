"""The job service under load: many clients that list jobs, and as many that follow a log, at the same time.

    python -m benchmarks.service [--clients 200] [--seconds 30] [--out benchmarks/results/service.json]

The real server in a process of its own, on SQLite, with tokens; 200 jobs in its database. Half of the clients ask for
the list once a second, twice as often as the page does; half follow the log of one running job, to which this program
appends a line 20 times a second. The latency of a list is from the request to the last byte; that of a log line is from
its writing to its arrival. `closed` asks again with no pause at all: what the server gives at most. The load comes from
one more process on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from cluster.service import store, tokens
from cluster.service.database import open_database

JOBS = 200
LINES_PER_S = 20
GOAL_MS = 500.0
PORT = 8477


def filled(state: Path) -> tuple[str, str]:
    """A state directory with jobs, one of them running; that one and a token."""
    engine = open_database(f"sqlite:///{state / 'service.db'}")
    _, token = tokens.add_token(engine, "load", ("admin",))
    values: dict[str, Any] = {"owner": "load", "name": "bench", "recipe": "name: bench\n" * 40, "directory": "/data"}
    values |= {"digest": "0" * 64, "idempotency": None, "priority": 0, "cpus": 1.0, "gpus": 0.0, "candidates": 96}
    for _ in range(JOBS):
        job = store.add_job(engine, {**values, "id": store.new_id()})
        store.keep_progress(engine, job, {"stage": "search", "scored": 41, "of": 101, "share": 0.406})
        if job.number < JOBS:
            store.change(engine, job, "DONE")
    store.change(engine, job, "RUNNING", attempt=1)
    (state / "jobs" / job.id).mkdir(parents=True)
    engine.dispose()
    return job.id, token


async def lists(session: aiohttp.ClientSession, url: str, until: float, pause: float, found: list[float]) -> None:
    """Ask for the list of jobs until the time is over; milliseconds of each."""
    await asyncio.sleep(pause * (id(found) % 97) / 97 if pause else 0)
    while time.perf_counter() < until:
        begun = time.perf_counter()
        async with session.get(f"{url}/jobs?limit=50") as answer:
            body = await answer.json()
        assert answer.status == 200, body
        assert len(body["jobs"]) == 50
        found.append(1e3 * (time.perf_counter() - begun))
        await asyncio.sleep(pause)


async def follows(session: aiohttp.ClientSession, url: str, job: str, until: float, found: list[float]) -> None:
    """Follow the log; milliseconds from the writing of each line to its arrival."""
    async with session.get(f"{url}/jobs/{job}/logs", params={"follow": "true"}) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if line.startswith(b"data: "):
                found.append(1e3 * (time.time() - float(json.loads(line[6:]))))
            if time.perf_counter() > until:
                return


async def writes(log: Path, until: float) -> int:
    """Append lines that say when they were written; how many."""
    count = 0
    with log.open("a", buffering=1) as file:
        while time.perf_counter() < until + 1.0:
            file.write(f"{time.time()}\n")
            count += time.perf_counter() < until
            await asyncio.sleep(1 / LINES_PER_S)
    return count


async def load(url: str, token: str, job: str, log: Path, clients: int, seconds: float, pause: float) -> dict[str, Any]:
    """Run all clients; what they saw."""
    until = time.perf_counter() + seconds
    listed: list[list[float]] = [[] for _ in range(clients // 2)]
    followed: list[list[float]] = [[] for _ in range(clients - clients // 2)]
    headers = {"Authorization": f"Bearer {token}"}
    settings = aiohttp.ClientTimeout(total=seconds + 60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=settings) as session:
        work = [lists(session, url, until, pause, found) for found in listed]
        work += [follows(session, url, job, until, found) for found in followed]
        ends = await asyncio.gather(writes(log, until), *work, return_exceptions=True)
    errors = [f"{type(end).__name__}: {end}" for end in ends if isinstance(end, BaseException)]
    return {
        "clients": clients,
        "seconds": seconds,
        "pause_s": pause,
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "list": figures([ms for found in listed for ms in found]),
        "lists_per_s": round(sum(map(len, listed)) / seconds, 1),
        "log_line": figures([ms for found in followed for ms in found]),
        "log_lines_received": sum(map(len, followed)),
    }


def figures(milliseconds: Sequence[float]) -> dict[str, float]:
    """Quantiles, in milliseconds."""
    if len(milliseconds) < 2:
        return {}
    cuts = statistics.quantiles(milliseconds, n=100)
    return {
        "n": len(milliseconds),
        "median_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(max(milliseconds), 1),
    }


def run(clients: int, seconds: float) -> dict[str, Any]:
    """Start the service, load it twice, and stop it."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        job, token = filled(state)
        code = "from search.cli import main; main()"
        # A cluster that never answers: the supervisor looks for it, and the running job stays as it is.
        command = [
            sys.executable,
            "-c",
            code,
            "serve",
            f"--state={state}",
            f"--port={PORT}",
            "--cluster=http://127.0.0.1:9",
        ]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{PORT}"
            asyncio.run(answers(url))
            log = state / "jobs" / job / "log.txt"
            results = {}
            for name, pause in (("steady", 1.0), ("closed", 0.0)):
                before = os.getloadavg()[0]
                log.write_text("")
                results[name] = asyncio.run(load(url, token, job, log, clients, seconds, pause))
                results[name]["load_before"] = round(before, 2)
        finally:
            process.terminate()
            process.wait(60)
    return {"goal_p99_ms": GOAL_MS, "cores": os.cpu_count(), **results}


async def answers(url: str) -> None:
    """Wait until the service is there."""
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            try:
                async with session.get(f"{url}/health"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
    raise TimeoutError("the service did not start within a minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    text = json.dumps(run(given.clients, given.seconds), indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
