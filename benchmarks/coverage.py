"""Whether stated intervals of scores hold the truth as often as they say, at 90 and 95 %.

    python -m benchmarks.coverage --out benchmarks/results/coverage.json [--runs 2000]

* `score`: `evaluators._stats.interval` of 0/1 items in groups of 1 to 8 that stand or fall together.
* `difference`: `paired_difference` +- Student's t of two models on the same items.
* `macro`, `cvar`, `minimum`: `aggregates.score` +- Student's t over six languages whose items share templates;
  `minimum of equals` where all languages are equally good, the case in which the lowest of noisy scores is too low.

2,000 runs know a coverage of 95 % to 1 % (two standard errors), one of 90 % to 1.3 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators._stats import interval, paired_difference, score_of, student
from evaluators._types import Score
from search.results.history import machine
from search.statistics.aggregates import parse, score

LEVELS = (0.9, 0.95)
LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
APART = (0.9, 0.45, 0.6, 0.85, 0.8, 0.7)
AGGREGATES = (
    ("macro", "cvar(g, 1.0)", APART),
    ("cvar", "cvar(g, 0.5)", APART),
    ("minimum", "min_language(g)", APART),
    ("minimum of equals", "min_language(g)", (0.7,) * 6),
)
Floats = NDArray[np.float64]


def clustered(draw: np.random.Generator, groups: int, share: float) -> tuple[Floats, list[str]]:
    """0/1 items, 1 to 8 in a group, each group with a rate of its own; their mean rate is `share`."""
    sizes = draw.integers(1, 9, groups)
    rates = draw.beta(2 * share, 2 * (1 - share), groups)
    names = np.repeat(np.arange(groups), sizes).astype(str).tolist()
    return draw.binomial(1, np.repeat(rates, sizes)).astype(np.float64), names


def scores(runs: int) -> list[dict[str, Any]]:
    found = []
    for groups in (30, 60, 150):
        for share in (0.1, 0.5, 0.8, 0.95):
            draw = np.random.default_rng((groups, int(100 * share)))
            hits = dict.fromkeys(LEVELS, 0)
            for _ in range(runs):
                values, names = clustered(draw, groups, share)
                for level in LEVELS:
                    low, high = interval(values, names, level=level)
                    hits[level] += low <= share <= high
            found.append(_row("score", runs, hits, groups=groups, rate=share))
    return found


def differences(runs: int) -> list[dict[str, Any]]:
    found = []
    for groups in (30, 60, 150):
        for gain in (0.0, 0.08):
            draw = np.random.default_rng((groups, int(1000 * gain), 5))
            hits = dict.fromkeys(LEVELS, 0)
            for _ in range(runs):
                sizes = draw.integers(1, 6, groups)
                names = np.repeat(np.arange(groups), sizes).astype(str).tolist()
                rate = np.repeat(draw.beta(2, 2, groups), sizes) * 0.9
                first = draw.binomial(1, rate).astype(np.float64)
                other = draw.binomial(1, rate + gain)  # two models that agree on six items of ten
                second = np.where(draw.uniform(size=len(rate)) < 0.4, other, first)
                score_ = paired_difference(second, first, names)
                _hit(hits, score_, 0.4 * gain, groups)
            found.append(_row("difference", runs, hits, groups=groups, gain=gain))
    return found


def aggregates(runs: int) -> list[dict[str, Any]]:
    found = []
    for groups in (60, 150):
        names = [str(group) for group in range(groups)]
        for kind, text, rates in AGGREGATES:
            aggregate, worst = parse(text), np.sort(rates)
            truth = {"macro": np.mean(rates), "cvar": worst[:3].mean()}.get(kind, worst[0])
            draw = np.random.default_rng((groups, len(kind)))
            hits = dict.fromkeys(LEVELS, 0)
            for _ in range(runs):
                easy = draw.normal(0, 0.04, (groups, 1))  # an easy template is easy in all languages
                values = draw.binomial(1, np.clip(np.array(rates) + easy, 0, 1)).astype(np.float64)
                each = {("g", name): score_of(values[:, place], names) for place, name in enumerate(LANGUAGES)}
                each["g", ""] = score_of(values.ravel(), np.repeat(names, len(LANGUAGES)).tolist())
                _hit(hits, score(aggregate, each, True), float(truth), groups)
            found.append(_row(kind, runs, hits, groups=groups))
    return found


def _hit(hits: dict[float, int], found: Score, truth: float, groups: int) -> None:
    for level in LEVELS:
        hits[level] += abs(found.value - truth) <= student((1 + level) / 2, groups - 1) * found.stderr


def _row(kind: str, runs: int, hits: dict[float, int], **setting: float) -> dict[str, Any]:
    return {"kind": kind, **setting, **{f"{level:.0%}": round(hits[level] / runs, 4) for level in LEVELS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = scores(options.runs) + differences(options.runs) + aggregates(options.runs)
    summary = {
        kind: {
            f"{level:.0%}": [f(row[f"{level:.0%}"] for row in rows if row["kind"] == kind) for f in (min, max)]
            for level in LEVELS
        }
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }
    found = {"machine": machine(), "runs": options.runs, "summary": summary, "settings": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
