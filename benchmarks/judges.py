"""Judged items in a second: from the cache, and over HTTP from a server on loopback that takes no time, or 50 ms.

    python -m benchmarks.judges --out benchmarks/results/judges.json

What is measured is an evaluator's way from complete responses to values: prompts rendered in six languages, keys,
look-ups, verdicts, tallies. Generation is not part of it. One process; rounds of each figure are kept, the median is
stated. The server runs in a process of its own and takes CPU from the client on a small machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from evaluators._types import Evaluator, Item
from evaluators.judge_harm import JudgeHarm, judge_harm
from evaluators.judge_winrate import JudgeWinrate, judge_winrate
from evaluators.judges.settings import judge_of
from search.results.history import machine

LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
WORDS = ("steps", "étape", "шаг", "चरण", "خطوة", "oven", "lamp", "number", "seven", "refuse", "because", "never")
GOALS = {"cache_hits_harm_items_per_second": 5_000.0, "cache_hits_pair_items_per_second": 5_000.0}
LATENCY_S = 0.05


def serve(latency_s: float, address: Any) -> None:
    """A judge that answers after `latency_s`; tells its URL and runs until it is killed."""
    from tests.evaluators.judges.server import Action, Body, by_word, judge_server

    def rule(body: Body, number: int) -> Action:
        time.sleep(latency_s)
        return by_word(body, number)

    with judge_server(rule) as server:
        address.send(server.url)
        address.recv()


def items(count: int) -> tuple[list[Item], list[str]]:
    """Items in six languages, and responses; answers and responses have 20 to 120 words."""
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(20, 120)))

    rows = [
        Item(str(n), " ".join(draw.choices(WORDS, k=12)), text(), LANGUAGES[n % 6], str(n), "", "search")
        for n in range(count)
    ]
    return rows, [text() for _ in rows]


def rates(evaluator: Evaluator, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Items in a second of the clock, and in a second of this process's CPU, of each round."""
    assert isinstance(evaluator, JudgeHarm | JudgeWinrate)
    rows, texts = items(count)
    wall, cpu = [], []
    for _ in range(rounds):
        start, start_cpu = time.perf_counter(), time.process_time()
        evaluator.values(rows, texts)
        wall.append(count / (time.perf_counter() - start))
        cpu.append(count / (time.process_time() - start_cpu))
    return wall, cpu


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    kept: dict[str, list[float]] = {}
    context = multiprocessing.get_context("spawn")
    for latency_s in (0.0, LATENCY_S):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(latency_s, there), daemon=True)
        process.start()
        url = here.recv()
        for concurrency in (8, 64):
            name = f"http_latency_{int(1000 * latency_s)}ms_concurrency_{concurrency}"
            file = folder / f"{name}.sqlite"
            settings = {"endpoint": url, "model": "tester", "cache": str(file), "concurrency": concurrency}
            harm = judge_harm(judge=judge_of(settings))
            asked = 200 if latency_s and concurrency == 8 else 600
            kept[f"{name}_items_per_second"], _ = rates(harm, asked, 1)
        if latency_s == 0:
            wins = judge_winrate(judge=judge_of(settings), against="answer")
            for kind, evaluator in (("harm", harm), ("pair", wins)):
                rates(evaluator, count, 1)  # fills the cache
                wall, cpu = rates(evaluator, count, rounds)
                kept[f"cache_hits_{kind}_items_per_second"] = wall
                kept[f"cache_hits_{kind}_items_per_cpu_second"] = cpu
        here.send("done")
        process.join(30)
    for name, values in kept.items():
        figures[name] = round(statistics.median(values), 1)
    return {"figures": figures, "rounds": {name: [round(value, 1) for value in row] for name, row in kept.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.items, options.rounds)
    met = {name: found["figures"][name] >= goal for name, goal in GOALS.items()}
    settings = {"items": options.items, "rounds": options.rounds, "load_before": os.getloadavg()[0]}
    document = {**found, "goals": GOALS, "met": met, "settings": settings, "machine": machine()}
    text = json.dumps(document, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
