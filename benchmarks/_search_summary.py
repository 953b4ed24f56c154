"""From single runs to the figures: medians, quartiles, censored runs, and how the goals are met."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ._search_tasks import Task

GOALS = {"nsga2": 1 / 5, "tpe": 1 / 2, "qlognehvi": 3 / 4}
LEVELS, MARKS = (0.9, 0.95), (20, 40, 80, 160)
BUDGET = 160
# The slow peers get fewer (what they did not reach is censored there); a ratio of 1 / 5 needs more of the quick ones.
BUDGETS = {"auto": 120, "qlognehvi": 80, "gp": 40, "tpe": 240, "nsga2": 320, "random": 320}
# Where `auto` gets to 95 % and qLogNEHVI does not in its 80, their ratio would be a bound: there it has twice as many.
LONGER = {
    ("qlognehvi", task): 160
    for task in (
        "merge-language-k6",
        "merge-language-k6b",
        "merge-objective-d4b",
        "merge-worst-language-k6",
        "zdt2-d12-noise1",
    )
}
# A slow peer stops early, once it found this share from both references: what follows could change no figure at 95 %.
ENOUGH = 0.97
STOPPING = ("auto", "qlognehvi", "gp")
Row = Mapping[str, Any]


def budget(peer: str, task: str = "") -> int:
    """Evaluations that a peer has: usually, or for a task."""
    return LONGER.get((peer, task), BUDGETS.get(peer, BUDGET))


def complete(row: Row) -> bool:
    """Whether a run used its budget, or found enough."""
    near, wide = row["shares"]["found-near"], row["shares"]["found-wide"]
    stopped = row["peer"] in STOPPING and min(near[-1], wide[-1]) >= ENOUGH
    return stopped or len(near) >= budget(row["peer"], row["task"])


def reached(shares: Sequence[float | None], level: float) -> int | None:
    """Evaluations until the share first is at `level`, or None."""
    return next((n for n, share in enumerate(shares, 1) if share is not None and share >= level), None)


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return [ordered[0]] * 3
    return [round(q, 4) for q in statistics.quantiles(ordered, n=4, method="inclusive")]


def after(shares: Sequence[float | None], count: int) -> float:
    """The share after `count` evaluations; of a run that stopped before, its last one."""
    share = shares[min(count, len(shares)) - 1]
    assert share is not None, "beliefs are looked at after MARKS evaluations and at the end"
    return share


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
            key: _figures(budget(peer, name), [run["shares"][key][: budget(peer, name)] for run in runs], key)
            for key in sorted(set.intersection(*(set(run["shares"]) for run in runs)))
        } | {
            "runs": len(runs),
            "budget": budget(peer, name),
            "propose_seconds": quartiles([run["propose_seconds_median"] for run in runs])[1],
        }
    goals = {
        f"{key} at {level}": {which: _goals(problems, key, str(level), which) for which in ("held-out", "all")}
        for key in ("found-near", "found-wide")
        for level in LEVELS
    }
    goals |= {
        f"{key}, the peer's last": {which: _matched(grouped, tasks, key, which) for which in ("held-out", "all")}
        for key in ("found-near", "found-wide")
    }
    return {"runs": len(rows), "goals": goals, "problems": problems}


def _figures(most: int, runs: Sequence[Sequence[float | None]], key: str) -> dict[str, Any]:
    last = [next(share for share in reversed(run) if share is not None) for run in runs]
    found: dict[str, Any] = {"final": quartiles(last)}
    for level in LEVELS if key.startswith("found") else ():
        counts = [reached(run, level) for run in runs]
        evaluations = [n if n is not None else most + 1 for n in counts]
        found[str(level)] = {
            "evaluations": quartiles(evaluations),
            "missed": sum(n is None for n in counts),
            "censored": quartiles(evaluations)[1] > most,
        }
    for mark in MARKS:
        if most >= mark:
            found[f"at_{mark}"] = quartiles([after(run, mark) for run in runs])
    return found


def _goals(problems: Mapping[str, Any], key: str, level: str, which: str) -> dict[str, Any]:
    """Median over noisy problems of (evaluations of auto / evaluations of a peer), and where random did better."""
    ratios: dict[str, dict[str, float]] = defaultdict(dict)
    unknown: dict[str, list[str]] = defaultdict(list)
    worse: list[str] = []
    for name, problem in problems.items():
        peers = problem["peers"]
        if "auto" not in peers or (which == "held-out" and problem["tuning"]):
            continue
        mine = peers["auto"][key]
        for peer, figures in peers.items():
            if peer == "auto" or not problem["noisy"]:
                continue
            theirs = figures[key][level]
            # Where the peer is censored the ratio is an upper bound, where `auto` is a lower one; where both are, it
            # says nothing and is left out.
            if mine[level]["censored"] and theirs["censored"]:
                unknown[peer].append(name)
            else:
                ratios[peer][name] = round(mine[level]["evaluations"][1] / theirs["evaluations"][1], 3)
        random = peers.get("random", {}).get(key)
        if random and any(mine[f"at_{n}"][1] < random[f"at_{n}"][0] for n in MARKS if f"at_{n}" in mine):
            worse.append(name)
    return {
        "ratio_median": {peer: round(statistics.median(found.values()), 3) for peer, found in ratios.items()},
        "ratios": dict(ratios),
        "unknown": dict(unknown),
        "goals": GOALS,
        "worse_than_random": worse,
    }


def _matched(
    grouped: Mapping[tuple[str, str], Sequence[Row]], tasks: Mapping[str, Task], key: str, which: str
) -> dict[str, Any]:
    """Evaluations of `auto` to have what a peer has at the end of its budget, by those that the peer needed for it.

    A fixed level says nothing where neither reaches it; this one speaks on every problem. What a peer has is the median
    of its runs, `ENOUGH` at most, since some runs stop there. Where the median run of `auto` does not get there, the
    ratio is a lower bound.
    """
    ratios: dict[str, dict[str, float]] = defaultdict(dict)
    for (name, peer), runs in sorted(grouped.items()):
        task, mine = tasks[name], grouped.get((name, "auto"))
        if peer == "auto" or mine is None or not task.noisy or (which == "held-out" and task.tuning):
            continue
        last = min(statistics.median(after(run["shares"][key], budget(peer)) for run in runs), ENOUGH)
        needed = [
            statistics.median(reached(run["shares"][key][:most], last) or most + 1 for run in some)
            for some, most in ((mine, budget("auto")), (runs, budget(peer)))
        ]
        ratios[peer][name] = round(needed[0] / needed[1], 3)
    return {
        "ratio_median": {peer: round(statistics.median(found.values()), 3) for peer, found in ratios.items()},
        "ratios": dict(ratios),
        "unknown": {},
        "goals": GOALS,
        "worse_than_random": None,
    }
