"""Plots of the search benchmark as plain SVG: no library, and a change of figures is a readable diff."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 320, 44, 34, 26
COLOURS = {
    "auto": "#d62728",
    "qlognehvi": "#1f77b4",
    "tpe": "#2ca02c",
    "nsga2": "#9467bd",
    "random": "#7f7f7f",
    "map": "#ff7f0e",
    "cmaes": "#8c564b",
    "gp": "#17becf",
}


def plot(rows: Sequence[Mapping[str, Any]], folder: Path, key: str = "found-near") -> None:
    """One file for each problem: median share of the best hypervolume by evaluations, one line for each peer."""
    folder.mkdir(parents=True, exist_ok=True)
    grouped: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["peer"] in COLOURS:
            grouped[row["task"]][row["peer"]].append(row["shares"][key])
    for task, peers in grouped.items():
        (folder / f"{task}.svg").write_text(_svg(task, peers))


def _svg(title: str, peers: Mapping[str, Sequence[Sequence[float]]]) -> str:
    longest = max(len(run) for runs in peers.values() for run in runs)
    right, low = WIDTH - 96, HEIGHT - BOTTOM

    def at(count: float, share: float) -> str:
        return f"{LEFT + count / longest * (right - LEFT):.1f},{low - share * (low - TOP):.1f}"

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT}" y="15">{title}</text>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 0.95, 1.0):
        start, end = at(0, share), at(longest, share)
        parts.append(f'<polyline points="{start} {end}" stroke="#ddd" fill="none"/>')
        y = float(start.split(",")[1]) + 4
        if share != 1.0:
            parts.append(f'<text x="{LEFT - 6}" y="{y:.1f}" text-anchor="end">{share:g}</text>')
    for count in range(0, longest + 1, 40):
        x = at(count, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{low + 14}" text-anchor="middle">{count}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">evaluations</text>')
    for index, (peer, colour) in enumerate((p, c) for p, c in COLOURS.items() if p in peers):
        shortest = min(len(run) for run in peers[peer])
        line = [at(n + 1, statistics.median(run[n] for run in peers[peer])) for n in range(shortest)]
        parts.append(f'<polyline points="{" ".join(line)}" stroke="{colour}" stroke-width="1.6" fill="none"/>')
        parts.append(f'<text x="{right + 10}" y="{TOP + 14 + 16 * index}" fill="{colour}">{peer}</text>')
    return "\n".join([*parts, "</svg>\n"])
