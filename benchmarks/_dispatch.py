"""Candidates that sleep: a real search, pool and database, with nothing in the worker but a pause."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cluster.pool import RayPool, open_pool
from evaluators._types import Item
from mergers._schema import load_method
from mergers._spec import weights
from search.run.items import scores_of
from search.scoring.objective import AS_IT_IS, Answer, Grader, Job
from search.space import space_of
from search.stopping import Rules
from search.store import Store
from search.study import SearchPlan, run_search

ITEMS = 750
"""For each of two evaluators: 1,500 items, as a small real search has."""
LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")


def graders() -> tuple[Grader, ...]:
    """Two evaluators of made items."""
    return tuple(
        Grader(
            name,
            "exact_match",
            (),
            tuple(Item(f"{name}-{i}", "", "", LANGUAGES[i % 6], f"g{i // 3}", "", "search") for i in range(ITEMS)),
        )
        for name in ("general", "safety")
    )


@dataclass(frozen=True)
class Sleeper:
    """Sleeps, then answers with known rates: general ability falls and safety rises with the second expert's share."""

    seconds: float

    def __call__(self) -> Any:
        load_method("linear")  # loads torch: part of a worker's start, not of its first candidate
        return self.answer

    def answer(self, job: Job) -> Answer:
        """Per-item results of a job."""
        time.sleep(self.seconds)
        share = {"base": 0.3, "one": 0.0, "two": 1.0}.get(job.experts[0]) if job.merge == AS_IT_IS else None
        share = float(np.clip(weights(job.merge, 2)[1], 0, 1)) if share is None else share
        uniform = (np.arange(ITEMS) + 0.5) / ITEMS
        rates = {"general": 0.9 - 0.5 * share**2, "safety": 0.1 + 0.85 * share}
        return Answer({name: (uniform < rate).astype(np.float32) for name, rate in rates.items()}, 7 * ITEMS)


def plan(folder: Path, candidates: int, workers: int) -> SearchPlan:
    """A search over two experts."""
    (folder / "items").mkdir(exist_ok=True)
    scored = Sleeper(0.0)
    unmerged = tuple(
        (name, tuple(scores_of(scored.answer(Job(AS_IT_IS, (name,), "search")).results, graders(), "search").items()))
        for name in ("base", "one", "two")
    )
    return SearchPlan(
        name="linear",
        space=space_of(load_method("linear"), ("one", "two"), coefficients="free", seed=0),
        paths=("one", "two"),
        hashes=("aa", "bb"),
        objectives=(("general", "max"), ("safety", "max")),
        constraints=(),
        sampler="random",
        rules=Rules(candidates=candidates),
        seed=7,
        graders=graders(),
        items=folder / "items",
        reference=(0.0, 0.0),
        unmerged=unmerged,
        in_flight=workers + 1,
    )


def measure(folder: Path, workers: int, candidates: int, seconds: float) -> dict[str, Any]:
    """One search on a pool of `workers`; a Ray session is open. Times in seconds and milliseconds, CPU by process.

    `of_linear` compares with candidates that take `seconds` each; `busy_share` with the time that they did take in the
    workers, which on a loaded machine is longer: a worker that sleeps must be woken.
    """
    pool = open_pool(Sleeper(seconds), actors=workers, cpus=1.0, start_timeout_s=300)
    try:
        broker = psutil.Process(pool.broker_pid())
        store = Store(folder / "study.db", owner="bench")
        store.create()
        wanted = plan(folder, candidates, workers)
        warm(pool, workers)
        before, cpu, theirs = time.perf_counter(), time.process_time(), _cpu(broker)
        run_search(wanted, pool, store)
        wall, cpu, theirs = time.perf_counter() - before, time.process_time() - cpu, _cpu(broker) - theirs
        spent = sum(point.seconds or 0.0 for point in store.points("linear"))
        assert {point.state for point in store.points("linear")} == {"COMPLETE"}
        nodes = pool.stats()["nodes"]
        store.close()
    finally:
        pool.close()
    ideal = candidates * seconds / workers
    return {
        "actors": workers,
        "nodes": nodes,
        "candidates": candidates,
        "wall_s": round(wall, 3),
        "of_linear": round(ideal / wall, 3),
        "busy_share": round(spent / (wall * workers), 3),
        "in_worker_ms": round(1e3 * spent / candidates, 1),
        "idle_ms": round(1e3 * (wall * workers - spent) / candidates, 1),
        "driver_cpu_ms": round(1e3 * cpu / candidates, 2),
        "broker_cpu_ms": round(1e3 * theirs / candidates, 2),
        "load": round(os.getloadavg()[0], 2),
    }


def warm(pool: RayPool, workers: int) -> None:
    """Let every worker answer once, so that first calls are not part of a figure."""
    for index in range(2 * workers):
        pool.submit(index, Job(AS_IT_IS, ("base",), "search"))
    left = 2 * workers
    while left:
        left -= len(pool.collect(120))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
