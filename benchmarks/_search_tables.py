"""The benchmark's figures as a page of tables, written from the summary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ._search_floor import MOST

ORDER = (
    "auto",
    "qlognehvi",
    "tpe",
    "map",
    "cmaes",
    "nsga2",
    "nsga3",
    "pymoo-nsga2",
    "pymoo-nsga3",
    "gp",
    "qmc",
    "random",
)


def write_tables(result: Mapping[str, Any], file: Path) -> None:
    """Markdown: the goals, then evaluations to 95 % and shares after 40 and 80 evaluations by problem and peer."""
    problems = result["problems"]
    names = sorted(problems, key=lambda name: (problems[name]["tuning"], problems[name]["family"], name))
    peers = [peer for peer in ORDER if any(peer in problem["peers"] for problem in problems.values())]
    runs = {peer: sorted({problem["peers"][peer]["runs"] for problem in problems.values() if peer in problem["peers"]})
            for peer in peers}  # fmt: skip
    counted = "; ".join(
        f"{peer} {found[0]}" + (f" to {found[-1]}" if found[1:] else "") for peer, found in runs.items()
    )
    parts = [
        "# Figures of the search benchmark",
        "Written by `python -m benchmarks.search`; not to be edited. `auto` was tuned on the problems marked *.",
        f"Seeds for each problem: {counted}. Machine: {result['machine']}.",
        "## Goals: evaluations of `auto` divided by those of a peer, median over noisy problems",
        _goals(result["goals"]),
        "## Evaluations to 95 % of the best hypervolume, from the worst of the experts",
        "Median (quartiles). A figure after > was not reached: the budget.",
        _table(names, problems, peers, lambda figures: _evaluations(figures["found-near"]["0.95"], figures["budget"])),
        "## Evaluations to 95 % of who knows the true front",
        "The starts, then the points of the front that add most, one after the other.",
        "| problem | evaluations |\n|---|---|\n"
        + "\n".join(f"| {name} | {problems[name]['fewest'] or f'more than {MOST}'} |" for name in names),
        "## Evaluations to 95 % from a tenth of the range beyond the worst of the experts",
        _table(names, problems, peers, lambda figures: _evaluations(figures["found-wide"]["0.95"], figures["budget"])),
    ]
    for mark in (40, 80):
        parts += [
            f"## Share of the best hypervolume after {mark} evaluations, from the worst of the experts",
            "Median (quartiles).",
            _table(names, problems, peers, lambda figures, mark=mark: _share(figures["found-near"].get(f"at_{mark}"))),
        ]
    parts += [
        "## What is shown: the share of the front by measured values, and by beliefs, after 80 evaluations",
        "Median of measured, then of believed.",
        _table(names, problems, peers, _shown),
    ]
    file.write_text("\n\n".join(parts) + "\n")


def _goals(goals: Mapping[str, Any]) -> str:
    lines = [
        "| figure | problems | peer | ratio | goal | problems counted | says nothing on |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure, both in goals.items():
        for which, found in both.items():
            for peer in (peer for peer in ORDER if peer in found["ratio_median"]):
                goal = found["goals"].get(peer)
                lines.append(
                    f"| {figure} | {which} | {peer} | {found['ratio_median'][peer]:.2f} | "
                    f"{'' if goal is None else f'{goal:.2f}'} | {len(found['ratios'][peer])} | "
                    f"{len(found['unknown'].get(peer, ()))} |"
                )
            if found["worse_than_random"] is not None:
                worse = ", ".join(found["worse_than_random"]) or "none"
                lines.append(f"| {figure} | {which} | worse than random on | {worse} | | | |")
    return "\n".join(lines)


def _table(names: Sequence[str], problems: Mapping[str, Any], peers: Sequence[str], cell: Any) -> str:
    lines = ["| problem | " + " | ".join(peers) + " |", "|---" * (len(peers) + 1) + "|"]
    for name in names:
        found = problems[name]["peers"]
        cells = [cell(found[peer]) if peer in found else "" for peer in peers]
        lines.append(f"| {name}{' *' if problems[name]['tuning'] else ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _evaluations(figures: Mapping[str, Any], budget: int) -> str:
    first, median, third = figures["evaluations"]
    if figures["censored"]:
        return f"> {budget}"
    return f"{median:g} ({first:g}, {f'> {budget}' if third > budget else f'{third:g}'})"


def _share(quartiles: Sequence[float] | None) -> str:
    return "" if quartiles is None else f"{quartiles[1]:.2f} ({quartiles[0]:.2f}, {quartiles[2]:.2f})"


def _shown(figures: Mapping[str, Any]) -> str:
    pair = [figures.get(f"{kind}-near", {}).get("at_80") for kind in ("measured", "believed")]
    return " ".join(f"{found[1]:.2f}" for found in pair if found)
