"""From single runs to the figures: medians, quartiles, censored runs, and how the goals are met."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ._search_tasks import Task

GOALS = {"nsga2": 1 / 5, "tpe": 1 / 2, "qlognehvi": 3 / 4}
LEVELS, MARKS = (0.9, 0.95), (20, 40, 80, 160)
Row = Mapping[str, Any]


def reached(shares: Sequence[float | None], level: float) -> int | None:
    """Evaluations until the share first is at `level`, or None."""
    return next((n for n, share in enumerate(shares, 1) if share is not None and share >= level), None)


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return [ordered[0]] * 3
    return [round(q, 4) for q in statistics.quantiles(ordered, n=4, method="inclusive")]


def summary(rows: Sequence[Row], tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Figures of each problem and peer, and of the goals over the noisy problems, at 90 and 95 % of the best volume.

    A run that did not reach a level counts as one evaluation more than it had: a lower bound. Where the median is such
    a bound, `censored` says so. Ratios are taken on each problem first, then their median over the problems.
    """
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["task"], row["peer"]].append(row)
    problems: dict[str, Any] = {}
    for (name, peer), runs in sorted(grouped.items()):
        task = tasks[name]
        about = {"family": task.family, "tuning": task.tuning, "noisy": task.noisy, "peers": {}}
        problems.setdefault(name, about)["peers"][peer] = {
            key: _figures([run for run in runs if key in run["shares"]], key)
            for key in sorted({key for run in runs for key in run["shares"]})
        } | {
            "runs": len(runs),
            "budget": min(len(run["shares"]["found-near"]) for run in runs),
            "propose_seconds": quartiles([run["propose_seconds_median"] for run in runs])[1],
        }
    goals = {
        f"{key} at {level}": {which: _goals(problems, key, str(level), which) for which in ("held-out", "all")}
        for key in sorted({key for row in rows for key in row["shares"]})
        for level in LEVELS
    }
    return {"runs": len(rows), "goals": goals, "problems": problems}


def _figures(runs: Sequence[Row], key: str) -> dict[str, Any]:
    budgets = [len(run["shares"][key]) for run in runs]
    found: dict[str, Any] = {"final": quartiles([run["shares"][key][-1] for run in runs])}
    for level in LEVELS:
        counts = [reached(run["shares"][key], level) for run in runs]
        evaluations = [n if n is not None else budget + 1 for n, budget in zip(counts, budgets, strict=True)]
        found[str(level)] = {
            "evaluations": quartiles(evaluations),
            "missed": sum(n is None for n in counts),
            "censored": quartiles(evaluations)[1] > min(budgets),
        }
    for mark in MARKS:
        if min(budgets) >= mark:
            found[f"at_{mark}"] = quartiles([run["shares"][key][mark - 1] for run in runs])
    return found


def _goals(problems: Mapping[str, Any], key: str, level: str, which: str) -> dict[str, Any]:
    """Median over noisy problems of (evaluations of auto / evaluations of a peer), and where random did better."""
    ratios: dict[str, dict[str, float]] = defaultdict(dict)
    worse: list[str] = []
    for name, problem in problems.items():
        peers = problem["peers"]
        if "auto" not in peers or (which == "held-out" and problem["tuning"]):
            continue
        mine = peers["auto"][key]
        for peer, figures in peers.items():
            if key not in figures:
                continue  # a run made before this figure was kept
            theirs = figures[key][level]
            # Where a peer is censored the ratio is an upper bound; where both are, it says nothing and is left out.
            if peer != "auto" and problem["noisy"] and not (theirs["censored"] and mine[level]["censored"]):
                ratios[peer][name] = round(mine[level]["evaluations"][1] / theirs["evaluations"][1], 3)
        random = peers.get("random", {}).get(key)
        if random and any(mine[f"at_{n}"][1] < random[f"at_{n}"][0] for n in MARKS if f"at_{n}" in mine):
            worse.append(name)
    return {
        "ratio_median": {peer: round(statistics.median(found.values()), 3) for peer, found in ratios.items()},
        "ratios": dict(ratios),
        "goals": GOALS,
        "worse_than_random": worse,
    }
