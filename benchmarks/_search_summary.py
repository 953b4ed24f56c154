"""From single runs to the figures: medians, quartiles, censored runs, and how the goals are met."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ._search_tasks import Task

GOALS = {"nsga2": 1 / 5, "tpe": 1 / 2, "qlognehvi": 3 / 4}
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


def summary(rows: Sequence[Row], tasks: Mapping[str, Task], level: float = 0.95) -> dict[str, Any]:
    """Figures of each problem and peer, and of the goals over the noisy problems.

    A run that did not reach the level counts as one evaluation more than it had: a lower bound. Where the median is
    such a bound, `censored` says so. Ratios are taken on each problem first, then their median over the problems.
    """
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["task"], row["peer"]].append(row)
    problems: dict[str, Any] = {}
    for (name, peer), runs in sorted(grouped.items()):
        task = tasks[name]
        entry = problems.setdefault(
            name, {"family": task.family, "tuning": task.tuning, "noisy": task.noisy, "peers": {}}
        )
        entry["peers"][peer] = {key: _figures(runs, key, level) for key in runs[0]["shares"]} | {
            "runs": len(runs),
            "budget": len(next(iter(runs[0]["shares"].values()))),
            "propose_seconds": quartiles([run["propose_seconds_median"] for run in runs])[1],
        }
    keys = sorted({key for row in rows for key in row["shares"]})
    return {
        "level": level,
        "runs": len(rows),
        "goals": {key: {which: _goals(problems, key, which) for which in ("held-out", "all")} for key in keys},
        "problems": problems,
    }


def _figures(runs: Sequence[Row], key: str, level: float) -> dict[str, Any]:
    counts = [reached(run["shares"][key], level) for run in runs]
    budgets = [len(run["shares"][key]) for run in runs]
    evaluations = [n if n is not None else budget + 1 for n, budget in zip(counts, budgets, strict=True)]
    found: dict[str, Any] = {
        "evaluations": quartiles(evaluations),
        "missed": sum(n is None for n in counts),
        "censored": quartiles(evaluations)[1] > min(budgets),
        "final": quartiles([run["shares"][key][-1] for run in runs]),
    }
    for mark in (20, 40, 80, 160):
        if min(budgets) >= mark:
            found[f"at_{mark}"] = quartiles([run["shares"][key][mark - 1] for run in runs])
    return found


def _goals(problems: Mapping[str, Any], key: str, which: str) -> dict[str, Any]:
    """Median over noisy problems of (evaluations of auto / evaluations of a peer), and where random did better."""
    ratios: dict[str, dict[str, float]] = defaultdict(dict)
    worse: list[str] = []
    for name, problem in problems.items():
        peers = problem["peers"]
        if "auto" not in peers or (which == "held-out" and problem["tuning"]):
            continue
        mine = peers["auto"][key]
        for peer, figures in peers.items():
            # Both sides censored says nothing; a censored auto makes the ratio a lower bound, so it is left in.
            if peer != "auto" and problem["noisy"] and not (figures[key]["censored"] and mine["censored"]):
                ratios[peer][name] = round(mine["evaluations"][1] / figures[key]["evaluations"][1], 3)
        random = peers.get("random", {}).get(key)
        if random:
            mark = max(n for n in (20, 40, 80, 160) if f"at_{n}" in mine and f"at_{n}" in random)
            if mine[f"at_{mark}"][1] < random[f"at_{mark}"][0]:
                worse.append(name)
    return {
        "ratio_median": {peer: round(statistics.median(found.values()), 3) for peer, found in ratios.items()},
        "ratios": dict(ratios),
        "goals": GOALS,
        "worse_than_random": worse,
    }
