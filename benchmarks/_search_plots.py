"""Plots of the search benchmark as plain SVG: no library, and a change of figures is a readable diff."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ._search_summary import after, budget

COLOURS = {
    "auto": "#d62728",
    "qlognehvi": "#1f77b4",
    "tpe": "#2ca02c",
    "map": "#ff7f0e",
    "cmaes": "#8c564b",
    "nsga2": "#9467bd",
    "gp": "#17becf",
    "random": "#7f7f7f",
}
LONGEST = 160  # evaluations shown
WIDTH, HEIGHT, COLUMNS, GAP, LEFT, TOP = 220, 130, 3, 46, 40, 56
ROW, LABELS, SPAN = 22, 180, 560
FEWEST, MOST = 8.0, 330.0  # evaluations, ends of the logarithmic axis
Runs = Mapping[str, Sequence[Sequence[float | None]]]


def plot(rows: Sequence[Mapping[str, Any]], problems: Mapping[str, Any], folder: Path) -> None:
    """Write the three plots.

    `analytic.svg` and `merges.svg`: share of the best hypervolume by evaluations, a panel for each problem.
    `evaluations.svg`: evaluations to 95 % of it, a row for each problem.

    Args:
        rows: runs.
        problems: their summary.
        folder: to write to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grouped: dict[str, dict[str, list[list[float | None]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["peer"] in COLOURS:
            grouped[row["task"]][row["peer"]].append(row["shares"]["found-near"])
    analytic = {task: runs for task, runs in grouped.items() if problems[task]["family"] == "analytic"}
    merges = {task: runs for task, runs in grouped.items() if task not in analytic}
    (folder / "analytic.svg").write_text(_panels(analytic, problems))
    (folder / "merges.svg").write_text(_panels(merges, problems))
    (folder / "evaluations.svg").write_text(_dots(problems))


def _panels(tasks: Mapping[str, Runs], problems: Mapping[str, Any]) -> str:
    rows = math.ceil(len(tasks) / COLUMNS)
    width, height = COLUMNS * (WIDTH + GAP) + 10, rows * (HEIGHT + GAP) + TOP + 8
    parts = [*_head(width, height), *_legend(LEFT, {peer for runs in tasks.values() for peer in runs})]
    for index, (task, runs) in enumerate(
        sorted(tasks.items(), key=lambda item: (problems[item[0]]["tuning"], item[0]))
    ):
        left, top = LEFT + index % COLUMNS * (WIDTH + GAP), TOP + index // COLUMNS * (HEIGHT + GAP)
        note = " (tuning)" if problems[task]["tuning"] else ""
        parts.append(f'<text x="{left}" y="{top - 5}" font-weight="bold">{task}{note}</text>')
        parts += _panel(left, top, runs)
    return "\n".join([*parts, "</svg>\n"])


def _panel(left: float, top: float, runs: Runs) -> list[str]:
    def at(count: float, share: float) -> str:
        return f"{left + count / LONGEST * WIDTH:.1f},{top + (1 - max(share, 0)) * HEIGHT:.1f}"

    parts = []
    for share in (0.0, 0.5, 0.95):
        y = top + (1 - share) * HEIGHT
        parts.append(f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 4}" y="{y + 3:.1f}" text-anchor="end">{share:g}</text>')
    for count in range(0, LONGEST + 1, 40):
        x = left + count / LONGEST * WIDTH
        parts.append(f'<text x="{x:.0f}" y="{top + HEIGHT + 12}" text-anchor="middle">{count}</text>')
    for peer in reversed([peer for peer in COLOURS if peer in runs]):  # ours on top
        last = min(LONGEST, max(len(run) for run in runs[peer]))
        shown = [n for n in range(1, last + 1) if n <= 40 or n % 4 == 0 or n == last]
        line = " ".join(at(n, statistics.median(after(run, n) for run in runs[peer])) for n in shown)
        wide = 2.2 if peer == "auto" else 1.2
        parts.append(f'<polyline points="{line}" stroke="{COLOURS[peer]}" stroke-width="{wide}" fill="none"/>')
    return parts


def _dots(problems: Mapping[str, Any]) -> str:
    names = sorted(problems, key=lambda name: (problems[name]["tuning"], problems[name]["family"], name))
    parts = _head(LABELS + SPAN + 40, TOP + ROW * len(names) + 40)
    parts += _legend(LABELS, {peer for problem in problems.values() for peer in problem["peers"]})

    def at(count: float) -> float:
        return LABELS + math.log(count / FEWEST) / math.log(MOST / FEWEST) * SPAN

    low = TOP + ROW * len(names)
    for count in (10, 20, 40, 80, 160, 320):
        parts.append(f'<path d="M{at(count):.1f} {TOP - 6}V{low}" stroke="#ddd"/>')
        parts.append(f'<text x="{at(count):.1f}" y="{low + 14}" text-anchor="middle">{count}</text>')
    parts.append(
        f'<text x="{LABELS}" y="{low + 30}">evaluations to 95 % (median; ours with quartiles); a ring: not reached in '
        "that many</text>"
    )
    for index, name in enumerate(names):
        y = TOP + ROW * index + 8
        note = " (tuning)" if problems[name]["tuning"] else ""
        parts.append(f'<text x="{LABELS - 8}" y="{y + 4}" text-anchor="end">{name}{note}</text>')
        parts.append(f'<path d="M{LABELS} {y}h{SPAN}" stroke="#eee"/>')
        for peer in reversed([peer for peer in COLOURS if peer in problems[name]["peers"]]):
            figures = problems[name]["peers"][peer]["found-near"]["0.95"]
            first, median, third = figures["evaluations"]
            x, colour = at(min(median, budget(peer, name))), COLOURS[peer]
            if peer == "auto":
                ends = at(min(first, budget(peer, name))), at(min(third, budget(peer, name)))
                parts.append(f'<path d="M{ends[0]:.1f} {y}H{ends[1]:.1f}" stroke="{colour}" stroke-width="3"/>')
            fill = "white" if figures["censored"] else colour
            parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.6"/>')
    return "\n".join([*parts, "</svg>\n"])


def _head(width: float, height: float) -> list[str]:
    return [
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="10"'
        f' viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]


def _legend(left: float, peers: set[str]) -> list[str]:
    parts = []
    for index, (peer, colour) in enumerate((peer, colour) for peer, colour in COLOURS.items() if peer in peers):
        x = left + 74 * index
        parts.append(
            f'<path d="M{x} 16h14" stroke="{colour}" stroke-width="3"/><text x="{x + 18}" y="20">{peer}</text>'
        )
    return parts
