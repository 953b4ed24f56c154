"""Whether what the product says about its own errors is true: coverage and calibration in simulation.

    python -m benchmarks.noise --out benchmarks/results/noise.json [--runs 200]

* `scores`: share of 90 % intervals of a score (`evaluators._stats.interval`) that hold the true mean.
* `differences`: the same for the difference of two candidates on the same items (value +- t stderr).
* `front`: points on the measured front of a search: how often a point with a stated P(front) is on the front of the
  true values, in bins of the stated probability.
* `hypervolume`: share of 90 % intervals that hold the true hypervolume of the measured front, and the bias of the
  measured one before and after its stated optimism is taken off.
* `optimism`: share of 90 % intervals of the gap between search and report split that hold its expectation.
* `confirmation`: true hypervolume, as a share of the best, of the front that the report split decides: among the
  points of the measured front alone, and with those that `search.statistics.repeats` adds.

Candidates are points of made-up merges (`_search_merges.synthetic`, landscapes that nothing was tuned on), items are
those of `_items`; every run draws items and candidates anew.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import moocore
import numpy as np

from evaluators._stats import interval, paired_difference, student
from search.results.history import machine
from search.statistics.aggregates import Aggregate
from search.statistics.front import contenders, hypervolume
from search.statistics.repeats import deserving
from search.statistics.uncertainty import Quantity, draws, measured, p_on_front, shrunk
from search.statistics.volume import hypervolume_interval, parts_of

from ._items import Bank, make_bank
from ._search_merges import binomial, synthetic
from ._search_tasks import Array, Task

BOTH = ((0, "mean"), (1, "mean"))
BINS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
Result = dict[str, Any]


def tasks() -> tuple[tuple[Task, int], ...]:
    """Landscapes with their number of evaluators; `draws` and constants were chosen on other ones."""
    three = ((0, "mean"), (1, "mean"), (2, "mean"))
    return (
        (synthetic("objective-d4", seed=41, experts=2, groups=2, by="objective", tuning=False), 2),
        (synthetic("language-k6", seed=42, experts=6, by="language", objectives=BOTH, tuning=False), 2),
        (synthetic("objective-d3", seed=43, experts=3, by="objective", objectives=three, tuning=False), 3),
        (
            synthetic(
                "worst-language-k6",
                seed=44,
                experts=6,
                by="language",
                objectives=((0, "mean"), (1, "min")),
                tuning=False,
            ),
            2,
        ),
    )


SETTINGS = (
    # templates in six languages, variance of groups, of items, candidates
    {"templates": 60, "group": 0.2, "item": 0.4, "candidates": 40},
    {"templates": 60, "group": 0.2, "item": 0.4, "candidates": 100},
    {"templates": 150, "group": 0.1, "item": 0.5, "candidates": 60},
    {"templates": 60, "group": 0.0, "item": 0.0, "candidates": 40},  # nothing in common: the hardest, and unlike models
)


def scores(runs: int) -> list[Result]:
    found = []
    for templates in (30, 60, 200):
        for group in (0.0, 0.3, 0.6):
            for rate in (0.1, 0.5, 0.8, 0.97):
                hits = 0
                for seed in range(runs):
                    bank = make_bank(1, 4, templates, seed, group=group, item=0.2)
                    values = bank.results(np.full((1, 4), rate), 0)["e0"][0]
                    low, high = interval(values, bank.layouts["e0"].groups, level=0.9)
                    hits += low <= rate <= high
                found.append({"groups": templates, "group": group, "rate": rate, "coverage": hits / runs})
    return found


def differences(runs: int) -> list[Result]:
    found = []
    for templates in (30, 60, 200):
        for first, second in ((0.5, 0.5), (0.5, 0.6), (0.9, 0.93)):
            hits = 0
            for seed in range(runs):
                bank = make_bank(1, 4, templates, seed)
                a, b = (bank.results(np.full((1, 4), rate), i)["e0"][0] for i, rate in enumerate((first, second)))
                gap = paired_difference(a, b, bank.layouts["e0"].groups)
                hits += abs(gap.value - (first - second)) <= student(0.95, templates - 1) * gap.stderr
            found.append({"groups": templates, "rates": [first, second], "coverage": hits / runs})
    return found


def points(task: Task, count: int, near: bool, rng: np.random.Generator) -> Array:
    """Candidates: uniform ones, or the best of many, as they lie at the end of a search."""
    if not near:
        return rng.random((count, task.problem.dimensions))
    pool = rng.random((2000, task.problem.dimensions))
    truth, left, kept = task.truth(pool), np.arange(2000), np.zeros(0, dtype=np.intp)
    while len(kept) < count:
        best = moocore.is_nondominated(truth[left], maximise=True, keep_weakly=True)
        kept, left = np.concatenate([kept, left[best]]), left[~best]
    return np.asarray(pool[kept[:count]])


def results_of(bank: Bank, rates: Array) -> dict[str, Array]:
    every = [bank.results(rates[index], index) for index in range(len(rates))]
    return {name: np.concatenate([one[name] for one in every]) for name in bank.layouts}


def confirmation(truth: Array, report: Array, mask: Array, sure: Array, task: Task) -> list[float]:
    """Points confirmed and true hypervolume (share of the best) of the confirmed front: the front alone, and more."""
    directions, reference = task.problem.directions, task.references["wide"]
    best = hypervolume(truth, directions, reference)
    found: list[float] = []
    for chosen in (np.flatnonzero(mask), np.array(deserving(mask.tolist(), sure.tolist()))):
        kept = chosen[moocore.is_nondominated(report[chosen], maximise=True, keep_weakly=True)]
        found += [len(chosen), hypervolume(truth[kept], directions, reference) / best]
    return found


def fronts(runs: int) -> dict[str, list[Result]]:
    """Calibration of P(front), coverage of the hypervolume's and of the optimism's intervals, and the confirmation."""
    volumes, gaps, confirmations, stated, realised, where = [], [], [], [], [], []
    for task, evaluators in tasks():
        quantities = tuple(
            Quantity(Aggregate("mean" if kind == "mean" else "min_language", f"e{index}"))
            for index, kind in binomial(task).objectives
        )
        directions, reference = task.problem.directions, task.references["wide"]
        for near in (False, True):
            for setting in SETTINGS:
                rows, confirmed = [], []
                for seed in range(runs):
                    rng = np.random.default_rng((seed, 7))
                    x = points(task, int(setting["candidates"]), near, rng)
                    rates, truth = binomial(task).rates(x), task.truth(x)
                    banks = [
                        make_bank(
                            evaluators, 6, int(setting["templates"]), s, group=setting["group"], item=setting["item"]
                        )
                        for s in (seed, seed + 10**6)
                    ]
                    values = results_of(banks[0], rates)
                    exact = measured(banks[0].layouts, values, quantities)
                    parts = parts_of(banks[0].layouts, values, quantities, seed=seed)
                    drawn = parts.joined(parts.drawn)
                    sure = chance(exact, drawn, directions)
                    mask = moocore.is_nondominated(exact, maximise=True, keep_weakly=True)
                    open_ = contenders(exact, drawn.std(axis=1), directions, np.ones(len(exact), dtype=bool))
                    low, high, optimism = hypervolume_interval(
                        parts.only(open_), directions, reference, groups=int(setting["templates"])
                    )
                    own = hypervolume(truth[mask], directions, reference)
                    stated += sure.tolist()
                    realised += moocore.is_nondominated(truth, maximise=True, keep_weakly=True).tolist()
                    where += [(task.name, near)] * len(x)
                    fresh = results_of(banks[1], rates)
                    confirmed.append(
                        confirmation(truth, measured(banks[1].layouts, fresh, quantities), mask, sure, task)
                    )
                    again = {name: results[mask] for name, results in fresh.items()}
                    report = measured(banks[1].layouts, again, quantities).mean(axis=0)
                    later = draws(banks[1].layouts, again, quantities, seed=seed).mean(axis=0)
                    gap = exact[mask].mean(axis=0) - report
                    error = np.sqrt(drawn[mask].mean(axis=0).var(axis=0) + later.var(axis=0))
                    volume = hypervolume(exact, directions, reference)
                    rows.append((low <= own <= high, (volume - own) / own, (volume - optimism - own) / own, gap, error))
                what = {"task": task.name, "near": near, **setting}
                plain, more = np.array(confirmed).mean(axis=0).reshape(2, 2).tolist()
                confirmations.append(
                    {**what, "front": dict(zip(("points", "hypervolume"), plain, strict=True))}
                    | {"deserving": dict(zip(("points", "hypervolume"), more, strict=True))}
                )
                volumes.append(
                    {
                        **what,
                        "coverage": float(np.mean([row[0] for row in rows])),
                        "bias": float(np.mean([row[1] for row in rows])),
                        "bias_after": float(np.mean([row[2] for row in rows])),
                    }
                )
                all_gaps, errors = np.array([row[3] for row in rows]), np.array([row[4] for row in rows])
                t = student(0.95, int(setting["templates"]) - 1)
                inside = np.abs(all_gaps - all_gaps.mean(axis=0)) <= t * errors
                gaps.append({**what, "coverage": float(inside.mean()), "gap": all_gaps.mean(axis=0).tolist()})
    return {
        "hypervolume": volumes,
        "optimism": gaps,
        "confirmation": confirmations,
        "front": calibration(np.array(stated), np.array(realised), where),
    }


def chance(exact: Array, drawn: Array, directions: tuple[str, ...]) -> Array:
    """P(front) as the front document states it."""
    everything = np.ones(len(exact), dtype=bool)
    open_ = contenders(exact, drawn.std(axis=1), directions, everything)
    found = np.zeros(len(exact))
    found[open_] = p_on_front(shrunk(exact[open_], drawn[open_]), directions, everything[open_])
    return found


def calibration(stated: Array, realised: Array, where: list[tuple[str, bool]]) -> list[Result]:
    """Bins of the stated probability with the share that came true, for all settings and by where points lie."""
    found = []
    for name, mask in (
        ("all", np.ones(len(stated), dtype=bool)),
        ("uniform", np.array([not near for _, near in where])),
        ("near the front", np.array([near for _, near in where])),
    ):
        for low, high in pairwise(BINS):
            inside = mask & (stated >= low) & ((stated < high) | (high == 1.0))
            if inside.any():
                found.append(
                    {
                        "points": name,
                        "from": low,
                        "to": high,
                        "count": int(inside.sum()),
                        "stated": float(stated[inside].mean()),
                        "realised": float(realised[inside].mean()),
                    }
                )
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--runs", type=int, default=200)
    options = arguments.parse_args()
    start = time.process_time()
    result: Result = {"machine": machine(), "runs": options.runs}
    result["scores"] = scores(5 * options.runs)
    result["differences"] = differences(5 * options.runs)
    result |= fronts(options.runs)
    result["summary"] = {
        key: {
            "coverage_mean": float(np.mean([row["coverage"] for row in result[key]])),
            "coverage_min": min(row["coverage"] for row in result[key]),
            "coverage_max": max(row["coverage"] for row in result[key]),
        }
        for key in ("scores", "differences", "hypervolume", "optimism")
    }
    shares = {
        kind: [np.mean([row[kind][key] for row in result["confirmation"]]) for key in ("points", "hypervolume")]
        for kind in ("front", "deserving")
    }
    result["summary"]["confirmation"] = {kind: [round(float(x), 4) for x in pair] for kind, pair in shares.items()}
    result["summary"]["front_error"] = {
        name: round(
            sum(row["count"] * abs(row["stated"] - row["realised"]) for row in result["front"] if row["points"] == name)
            / sum(row["count"] for row in result["front"] if row["points"] == name),
            4,
        )
        for name in ("all", "uniform", "near the front")
    }
    result["cpu_seconds"] = time.process_time() - start
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
