"""Whether stated intervals of scores hold the truth as often as they say, at 90 and 95 %.

    python -m benchmarks.coverage --out benchmarks/results/coverage.json [--runs 2000]

* `score`: `evaluators._stats.interval` of 0/1 items in groups of 1 to 8 that tend to fall together (`within`).
* `difference`: `paired_difference` +- Student's t of two models on the same items.
* `macro`, `cvar`, `minimum`: `statistics.intervals.interval` over six languages that share templates, in `worlds`
  from equal languages to clearly different ones, with 25 to 250 items for each (`UNEVEN`: not as many for all).
  `width` is the interval's mean width as a share of the oracle's, the shortest one around the measured value that holds
  the truth as often, known from all runs of the world; `alone` that of the worst language's own interval; `spread` the
  stated standard error as a share of how much values really differ from run to run; `bias` measured less true.

2,000 runs know a coverage of 95 % to 1 % (two standard errors), one of 90 % to 1.3 %; of `score`, which is quick, there
are ten times as many.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators._stats import interval, interval_of, paired_difference, score_of, student
from evaluators._types import Score
from search.results.history import machine
from search.statistics.aggregates import parse, reduced, score
from search.statistics.intervals import interval as search_interval

LEVELS = (0.9, 0.95)
LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
AGGREGATES = {"macro": "cvar(g, 1.0)", "cvar": "cvar(g, 0.5)", "minimum": "min_language(g)"}
UNEVEN = (25, 40, 60, 100, 150, 250)
WITHIN = {"strongly": 2.0, "little": 10.0}  # 1 / (1 + this): correlation of items of a group
Floats = NDArray[np.float64]


def worlds(items: int) -> dict[str, tuple[Floats, float]]:
    """True rates of the languages, and how much the templates that they share differ, by name.

    `one` and `steps` are the hard ones: one language lower, or each lower than the next, by about an error.
    """
    error = float(np.sqrt(0.21 / items))
    low, apart = 0.7 - 2.5 * error * (items < 60), np.array([0.9, 0.45, 0.6, 0.85, 0.8, 0.7])
    return {
        "equal": (np.full(6, 0.7), 0.04),
        "equal, high": (np.full(6, 0.95), 0.02),
        "equal, hard templates": (np.full(6, 0.6), 0.3),
        "one, by an error": (np.array([0.7 - error] + [0.7] * 5), 0.04),
        "one, by two errors": (np.array([0.7 - 2 * error] + [0.7] * 5), 0.04),
        "one, by three errors": (np.array([0.7 - 3 * error] + [0.7] * 5), 0.04),
        "two, by four errors": (np.array([0.85 - 4 * error] * 2 + [0.85] * 4), 0.04),
        "steps of half an error": (low + 0.5 * error * np.arange(6), 0.04),
        "apart": (apart, 0.04),
        "apart, hard templates": (0.1 + 0.8 * apart, 0.2),
    }


def clustered(draw: np.random.Generator, groups: int, share: float, within: float) -> tuple[Floats, list[str]]:
    """0/1 items, 1 to 8 in a group, each group with a rate of its own; their mean rate is `share`."""
    sizes = draw.integers(1, 9, groups)
    rates = draw.beta(within * share, within * (1 - share), groups)
    names = np.repeat(np.arange(groups), sizes).astype(str).tolist()
    return draw.binomial(1, np.repeat(rates, sizes)).astype(np.float64), names


def scores(runs: int) -> list[dict[str, Any]]:
    found = []
    for name, within in WITHIN.items():
        for groups in (30, 60, 150):
            for share in (0.1, 0.5, 0.8, 0.95):
                draw = np.random.default_rng((groups, int(100 * share), int(within)))
                hits = dict.fromkeys(LEVELS, 0)
                for _ in range(runs):
                    values, names = clustered(draw, groups, share, within)
                    for level in LEVELS:
                        low, high = interval(values, names, level=level)
                        hits[level] += low <= share <= high
                found.append(_row("score", runs, hits, within=name, groups=groups, rate=share))
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
    for items in (25, 60, 250):
        for number, (world, (rates, templates)) in enumerate(worlds(items).items()):
            draw = np.random.default_rng((items, number, 11))
            every = [_languages(draw, (items,) * 6, rates, templates) for _ in range(runs)]
            found += [_aggregate(kind, rates, every) | {"world": world, "items": items} for kind in AGGREGATES]
    for world, counts in (("equal", UNEVEN), ("one, by an error", UNEVEN), ("one, by an error", UNEVEN[::-1])):
        rates, templates = worlds(counts[0])[world]
        draw = np.random.default_rng((*counts, len(world)))
        every = [_languages(draw, counts, rates, templates) for _ in range(runs)]
        found += [_aggregate(kind, rates, every) | {"world": world, "items": list(counts)} for kind in AGGREGATES]
    return found


def _languages(
    draw: np.random.Generator, counts: Sequence[int], rates: Floats, templates: float
) -> dict[tuple[str, str], Score]:
    """Scores of languages on the first `counts` templates, and of all; an easy template is easy in all languages."""
    # Steps up and down by the same amount, which leave every rate what it is.
    room = np.minimum(templates, np.minimum(rates, 1 - rates))
    easy = room * draw.choice([-1.0, 1.0], (max(counts), 1))
    values = draw.binomial(1, rates + easy).astype(np.float64)
    rows = [values[:count, place] for place, count in enumerate(counts)]
    names = [[str(template) for template in range(count)] for count in counts]
    each = {("g", name): score_of(*row) for name, row in zip(LANGUAGES, zip(rows, names, strict=True), strict=True)}
    return each | {("g", ""): score_of(np.concatenate(rows), list(chain.from_iterable(names)))}


def _aggregate(kind: str, rates: Floats, every: list[dict[tuple[str, str], Score]]) -> dict[str, Any]:
    aggregate = parse(AGGREGATES[kind])
    truth = float(reduced(aggregate, rates[None], True)[0])
    hits, widths, alone = dict.fromkeys(LEVELS, 0), [], []
    found = [score(aggregate, each, True) for each in every]
    for each in every:
        languages = tuple(each["g", name] for name in LANGUAGES)
        groups = tuple(one.n for one in languages)
        for level in LEVELS:
            low, high = search_interval(aggregate, languages, groups, each["g", ""], True, level)
            hits[level] += low <= truth <= high
        widths.append(high - low)
        worst = languages[int(rates.argmin())]
        alone.append(float(np.subtract(*interval_of(worst, worst.n, level=LEVELS[-1])[::-1])))
    errors = np.sort([one.value - truth for one in found])
    kept = int(np.ceil(LEVELS[-1] * len(errors)))
    oracle = float((errors[kept - 1 :] - errors[: len(errors) - kept + 1]).min())
    return _row(kind, len(every), hits) | {
        "width": round(float(np.mean(widths)) / oracle, 3),
        "alone": round(float(np.mean(alone)) / oracle, 3),
        "spread": round(float(np.mean([one.stderr for one in found]) / errors.std()), 3),
        "bias": round(float(errors.mean()), 4),
    }


def _hit(hits: dict[float, int], found: Score, truth: float, groups: int) -> None:
    for level in LEVELS:
        hits[level] += abs(found.value - truth) <= student((1 + level) / 2, groups - 1) * found.stderr


def _row(kind: str, runs: int, hits: dict[float, int], **setting: Any) -> dict[str, Any]:
    return {"kind": kind, **setting, "runs": runs, **{f"{level:.0%}": round(hits[level] / runs, 4) for level in LEVELS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = scores(10 * options.runs) + differences(options.runs) + aggregates(options.runs)
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
