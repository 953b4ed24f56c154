"""How sure the figures of a run are: what `search.results.document` states beside each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from evaluators._stats import interval_of, student
from evaluators._types import Score
from search._recipe.constraints import Constraint
from search.run import items
from search.store import Scores, Store

from . import aggregates, front
from .aggregates import Aggregate
from .feasible import margin_errors, margins
from .intervals import interval
from .uncertainty import (
    LEVEL,
    Layout,
    Quantity,
    Values,
    bounded,
    draws,
    measured,
    objectives_of,
    p_on_front,
    shrunk,
)
from .uncertainty import margins as drawn_margins
from .volume import hypervolume_interval, parts_of


def layouts(store: Store, split: str) -> dict[str, Layout]:
    """Evaluator -> layout of its items of a split, as the run has entered them."""
    groups: Mapping[str, list[str]] = store.get(f"groups.{split}", {})
    languages: Mapping[str, list[str]] = store.get(f"languages.{split}", {})
    return {
        name: Layout(tuple(names), tuple(languages.get(name) or [""] * len(names))) for name, names in groups.items()
    }


def stated(
    scores: Scores, split: str, known: Mapping[str, Layout], objectives: Mapping[str, str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Scores as documents state them, with their 90 % intervals: value, stderr, low, high, n, split.

    Args:
        scores: of a point; aggregates over languages under their text.
        split: that they are of.
        known: evaluator -> layout of its items.
        objectives: text of an aggregate -> "max" or "min".
    """
    found = {}
    for (name, language), score in scores.items():
        aggregate = aggregates.parse(name) if "(" in name and name not in known else None
        if aggregate is None:
            low, high = bounds(known.get(name), language, scores[name, ""].n, score)
        else:
            low, high = spread(aggregate, scores, known.get(aggregate.evaluator), objectives.get(name) != "min")
        found[name, language] = {
            "value": score.value,
            "stderr": score.stderr,
            "low": low,
            "high": high,
            "n": score.n,
            "split": split,
        }
    return found


def bounds(layout: Layout | None, language: str, scored: int, score: Score) -> tuple[float, float]:
    """The 90 % interval of a score.

    Args:
        layout: of its evaluator; None: the interval counts every item as a group.
        language: "" for the score over all languages.
        scored: items of the evaluator that the point was scored on, the first ones of the layout.
        score: over the items of that language among them.
    """
    return interval_of(score, _counted(layout, language, scored, score), level=LEVEL)


def spread(aggregate: Aggregate, scores: Scores, layout: Layout | None, larger_is_better: bool) -> tuple[float, float]:
    """The 90 % interval of an aggregate over languages; of a single language, or without any, that of the score.

    Args:
        aggregate: which.
        scores: of the point.
        layout: of the aggregate's evaluator; None: every item counts as a group.
        larger_is_better: which languages are the worst, for `cvar`.
    """
    overall = scores[aggregate.evaluator, ""]
    spoken = [language for name, language in scores if name == aggregate.evaluator and language]
    found = tuple(scores[aggregate.evaluator, language] for language in spoken)
    counts = tuple(_counted(layout, lang, overall.n, one) for lang, one in zip(spoken, found, strict=True))
    if len(found) > 1:
        return interval(aggregate, found, counts, overall, larger_is_better, LEVEL)
    language = spoken[0] if spoken else ""
    return bounds(layout, language, overall.n, scores[aggregate.evaluator, language])


def _counted(layout: Layout | None, language: str, scored: int, score: Score) -> int:
    return score.n if layout is None else min(_groups(layout, language, scored), score.n)


@lru_cache(maxsize=4096)
def _groups(layout: Layout, language: str, scored: int) -> int:
    rows = list(zip(layout.groups[:scored], layout.languages[:scored], strict=True))
    groups = dict.fromkeys(group for group, own in rows if own == language) or dict.fromkeys(g for g, _ in rows)
    return max(1, len(groups))


def fewest_groups(known: Mapping[str, Layout], quantities: Sequence[Quantity]) -> int:
    """Number of groups of the evaluator that has fewest."""
    return min((_groups(known[q.evaluator], "", len(known[q.evaluator].groups)) for q in quantities), default=1)


def values_of(folder: Path, points: Sequence[str], split: str) -> dict[str, front.Array]:
    """Evaluator -> (p, n) per-item results of points that were scored in full."""
    found = [items.read_values(folder, point, split) for point in points]
    return {name: np.stack([row[name] for row in found]).astype(np.float64) for name in (found[0] if found else {})}


def sureness(
    store: Store,
    folder: Path,
    split: str,
    points: Sequence[str],
    scores: Mapping[str, Scores],
    objectives: Mapping[str, str],
    constraints: Sequence[Constraint],
    values: front.Array,
    errors: front.Array,
    reference: Sequence[float],
    seed: int,
) -> tuple[front.Array, tuple[float, float, float]]:
    """Probability of being on the front for each point, and (low, high, optimism) of the hypervolume.

    Only points that could be on the front are looked at item by item (`front.contenders`); the others have 0.

    Args:
        store: of the run.
        folder: of per-item results.
        split: of the scores.
        points: ids, all scored in full, `base` among them.
        scores: of all of them.
        objectives: text -> direction.
        constraints: of the recipe.
        values: (p, m) of the points.
        errors: (p, m) their standard errors.
        reference: of the hypervolume.
        seed: of the draws.
    """
    directions, known = tuple(objectives.values()), layouts(store, split)
    base = scores["base"]
    gaps = [margins(constraints, scores[point], base) for point in points]
    slack = [margin_errors(constraints, scores[point]) for point in points]
    certain = [all(g[n] + front.DOUBT * s[n] <= 0 for n in g) for g, s in zip(gaps, slack, strict=True)]
    allowed = np.array([all(gap <= 0 for gap in each.values()) for each in gaps], dtype=bool)
    mask = front.contenders(values, errors, directions, np.array(certain, dtype=bool))
    open_ = np.flatnonzero(mask)
    quantities = objectives_of(objectives)
    results = values_of(folder, [*(point for point, chosen in zip(points, mask, strict=True) if chosen), "base"], split)
    parts = parts_of(known, results, quantities, seed=seed).only(slice(-1))
    drawn = parts.joined(parts.drawn)
    keeps = np.broadcast_to(allowed[open_, None], drawn.shape[:2])
    if constraints:
        limits = draws(known, results, bounded(constraints), seed=seed)
        keeps = np.asarray((drawn_margins(constraints, limits[:-1], limits[-1:]) <= 0).all(axis=-1))
    chance = np.zeros(len(points))
    # No point that could be on the front has a chance of none; draws know nothing below half of one of them.
    chance[open_] = np.maximum(p_on_front(shrunk(values[open_], drawn), directions, keeps), 0.5 / drawn.shape[1])
    fit = allowed[open_]
    volume = hypervolume_interval(parts.only(fit), directions, reference, groups=fewest_groups(known, quantities))
    return chance, volume


def optimism(
    store: Store, folder: Path, points: Sequence[str], objectives: Mapping[str, str], seed: int
) -> dict[str, dict[str, Any]]:
    """How much better points looked on the search split than on the report split: objective -> gap with its interval.

    The gap is the mean over the points of search value less report value, in the objective's unit, signed so that
    above 0 means that the search promised more than the report split kept. The splits share no items, so their errors
    add in quadrature; within a split points share items, so the mean over points is drawn as a whole.

    Args:
        store: of the run.
        folder: of per-item results.
        points: ids of the confirmed merges; none: no gap.
        objectives: text -> direction.
        seed: of the draws.

    Returns:
        `value`, `stderr`, `low` and `high` (90 %) of the gap, and `points`, over how many it is the mean.
    """
    if not points:
        return {}
    quantities = objectives_of(objectives)
    exact: dict[str, front.Array] = {}
    variance = np.zeros(len(quantities))
    groups = 10**9
    for split in ("search", "report"):
        known: Mapping[str, Layout] = layouts(store, split)
        results: Values = values_of(folder, points, split)
        exact[split] = measured(known, results, quantities).mean(axis=0)
        variance += draws(known, results, quantities, seed=seed).mean(axis=0).var(axis=0, ddof=1)
        groups = min(groups, fewest_groups(known, quantities))
    signs = np.array([1.0 if direction == "max" else -1.0 for direction in objectives.values()])
    gaps, stderr = signs * (exact["search"] - exact["report"]), np.sqrt(variance)
    half = student(0.5 + LEVEL / 2, max(1, groups - 1)) * stderr
    return {
        name: {
            "value": float(gaps[index]),
            "stderr": float(stderr[index]),
            "low": float(gaps[index] - half[index]),
            "high": float(gaps[index] + half[index]),
            "points": len(points),
        }
        for index, name in enumerate(objectives)
    }


def spending(store: Store, scores: Mapping[str, Scores]) -> dict[str, int]:
    """Items that the search scored its merges on, and what races saved.

    Returns:
        `scored`; `full`, what the same merges would have cost without stages; `dropped`, merges that a race dropped.
    """
    known = layouts(store, "search")
    every = sum(len(layout.groups) for layout in known.values())
    merges = [point for point in store.points() if point.kind == "merge" and point.id in scores]
    scored = sum(scores[p.id][name, ""].n for p in merges for name in known if (name, "") in scores[p.id])
    return {"scored": scored, "full": every * len(merges), "dropped": sum(p.state == "PRUNED" for p in merges)}
