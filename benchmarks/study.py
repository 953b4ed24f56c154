"""What a study's database costs for each candidate, from the first to the ten thousandth.

    python -m benchmarks.study --out benchmarks/results/study.json

One study of the random sampler in a SQLite file (and in PostgreSQL, where `--database` names one). Every call of the
store is timed: seconds on the wall (`database`) and of this process (`processor`, which other work on the machine does
not touch) for each candidate, by thousands, and what a whole candidate costs. The machine's own speed moves by more
than a fifth within a run, so after every candidate one statement that asks for nothing (`SELECT 1`, in a connection of
its own) is timed too: `in_probes` is the database's time in units of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

import mergefront
from search._study.database import connect, url_of
from search.results.history import machine
from search.store import Store

BLOCK = 1000


def measure(candidates: int, place: str | Path) -> dict[str, Any]:
    """Run the study; seconds for each candidate in the database and in all, by blocks."""
    inside = processor = 0.0
    spent: list[float] = []
    computed: list[float] = []
    ends: list[float] = []
    probes: list[float] = []
    probe = connect(url_of(place))

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal inside, processor
            start, busy = time.perf_counter(), time.thread_time()
            try:
                return method(*arguments, **named)
            finally:
                inside += time.perf_counter() - start
                processor += time.thread_time() - busy

        return call

    def score(params: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        spent.append(inside)
        computed.append(processor)
        start = time.perf_counter()
        ends.append(start - sum(probes))  # without what is only there to be compared with
        with probe.connect() as connection:
            connection.execute(sa.text("SELECT 1")).scalar_one()
        probes.append(time.perf_counter() - start)
        return {"up": (params["x0"], 0.01), "down": (1.0 - params["x0"] * params["x1"], 0.01)}

    space = {f"x{index}": (0.0, 1.0) for index in range(6)}
    with patch.object(Store, "_write", timed(Store._write)), patch.object(Store, "_read", timed(Store._read)):
        mergefront.search(
            score,
            space,
            objectives={"up": "max", "down": "max"},
            budget=candidates,
            sampler="random",
            storage=place,
        )
    probe.dispose()
    found = {"database": _blocks(spent), "processor": _blocks(computed), "whole": _blocks(ends)}
    found["probe"] = _blocks([0.0, *itertools.accumulate(probes)])
    pairs = zip(found["database"], found["probe"], strict=False)
    return found | {"in_probes": [{"median": round(one["median_ms"] / unit["median_ms"], 3)} for one, unit in pairs]}


def _blocks(marks: list[float]) -> list[dict[str, float]]:
    """Milliseconds between marks for each block of candidates: lowest tenth (other work left out), median, mean."""
    steps = [1e3 * (after - before) for before, after in itertools.pairwise(marks)]
    blocks = [steps[start : start + BLOCK] for start in range(0, len(steps), BLOCK)]
    return [
        {
            "tenth_ms": round(statistics.quantiles(block, n=10)[0], 4),
            "median_ms": round(statistics.median(block), 4),
            "mean_ms": round(statistics.fmean(block), 4),
        }
        for block in blocks
        if len(block) > BLOCK // 2
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--database", action="append", default=[], help="URL of a database beside SQLite")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"candidates": arguments.candidates, "machine": machine(), "stores": {}}
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, str | Path] = {"sqlite": Path(folder) / "study.db"}
        places |= {url.split(":")[0]: url for url in arguments.database}
        for name, place in places.items():
            figures = measure(arguments.candidates, place)
            for kind in ("database", "processor", "in_probes"):
                first, last = figures[kind][0], figures[kind][-1]
                figures[f"{kind}_last_over_first"] = {name: round(last[name] / first[name], 3) for name in first}
            found["stores"][name] = figures
    text = json.dumps(found, indent=2)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
