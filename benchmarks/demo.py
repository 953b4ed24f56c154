"""The main job as a whole: time by stage, time and overhead of a candidate, memory, and the start of the program.

    python -m benchmarks.demo --out benchmarks/results/demo.json

Runs the demo in a new folder as a user would, watches all its processes from outside, and writes JSON. Memory is the
sum of proportional set sizes (PSS), which counts a page shared by k processes once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from search.results.history import machine
from search.store import Point, Store

PROGRAM = [sys.executable, "-c", "from search.cli import main; main()"]
GOALS = {
    "demo_seconds": 360.0,
    "peak_memory_gb": 6.0,
    "candidate_seconds_median": 1.5,
    "overhead_per_candidate_seconds": 0.060,
    "help_seconds_median": 0.5,
}


def watch(process: psutil.Process, found: dict[str, float], stop: threading.Event) -> None:
    """Keep the largest summed PSS of a process tree, in bytes, looking twice a second."""
    while not stop.wait(0.5):
        total = 0
        for member in [process, *_children(process)]:
            try:
                total += member.memory_full_info().pss
            except psutil.Error:
                continue  # it ended between the two looks
        found["peak"] = max(found["peak"], total)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def overhead(points: list[Point], actors: int) -> float:
    """Seconds of wall time for each candidate beyond what `actors` busy actors would need for it.

    From the first question to the last answer; includes the sampler, the database, two network hops, and actors that
    wait at the beginning and the end.
    """
    asked = min(point.asked or 0.0 for point in points)
    finished = max(point.finished or 0.0 for point in points)
    busy = sum(point.seconds or 0.0 for point in points)
    return (finished - asked - busy / actors) / len(points)


def measure(candidates: int, actors: int = 2) -> dict[str, Any]:
    """Run the demo once; figures in seconds, GB (10^9 bytes) and counts."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        found, stop = {"peak": 0.0}, threading.Event()
        start = time.perf_counter()
        demo = subprocess.Popen(
            [*PROGRAM, "demo", "--out", str(out), "--candidates", str(candidates)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        watcher = threading.Thread(target=watch, args=(psutil.Process(demo.pid), found, stop))
        watcher.start()
        try:
            _, errors = demo.communicate(timeout=3600)
        finally:
            stop.set()
            watcher.join()
        seconds = time.perf_counter() - start
        if demo.returncode:
            raise SystemExit(f"the demo failed:\n{errors}")
        store = Store(out / "study.db")
        merges = [point for point in store.points() if point.kind == "merge"]
        front = subprocess.run([*PROGRAM, "front", str(out), "--json"], capture_output=True, text=True, check=True)
        document = json.loads(front.stdout)
        return {
            "demo_seconds": round(seconds, 1),
            "stages_seconds": {event["name"]: round(event["seconds"], 1) for event in store.events("stage")},
            "peak_memory_gb": round(found["peak"] / 1e9, 2),
            "candidates": len(merges),
            "items_per_candidate": _items(document),
            "candidate_seconds_median": round(statistics.median(point.seconds or 0.0 for point in merges), 3),
            "overhead_per_candidate_seconds": round(overhead(merges, actors), 3),
            "front_points": sum(point["on_front"] for point in document["points"]),
            "hypervolume": document["hypervolume"],
        }


def _items(document: dict[str, Any]) -> int:
    """Items that a candidate is scored on in the search."""
    point = document["points"][0]
    return sum(score["n"] for score in point.get("search_scores", point["scores"]).values())


def help_seconds(runs: int = 9) -> float:
    """Median wall time of `mergefront --help`, after one run that fills the caches."""
    program = str(Path(sys.executable).with_name("mergefront"))
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run([program, "--help"], capture_output=True, check=True, timeout=60)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo.json"))
    parser.add_argument("--candidates", type=int, default=96)
    arguments = parser.parse_args()
    figures = measure(arguments.candidates)
    figures["help_seconds_median"] = round(help_seconds(), 3)
    met = {name: figures[name] <= goal for name, goal in GOALS.items()}
    result = {"figures": figures, "goals": GOALS, "met": met, "machine": machine()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
