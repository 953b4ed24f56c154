"""The front document: every scored point with its scores, as `mergefront front RUN --json` prints it.

One object feeds the table, the JSON, the report, `front.csv` and the picks, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluators._types import Score
from mergers._spec import Merge, weights

from . import front, items
from .errors import Problem, UserError, suggestion
from .feasible import feasible, margins
from .recipe import Recipe
from .store import Point, Scores, Store


def front_document(
    recipe: Recipe, store: Store, run: Path, *, objectives: Sequence[str] = (), split: str | None = None
) -> dict[str, Any]:
    """Build the document of a run as far as it has come.

    Points are in the order in which they were scored. A confirmed point carries its scores on the report split, with
    those that the search saw under `search_scores`; once any point is confirmed, the front, its probabilities and the
    hypervolume are decided among the confirmed ones alone.

    Args:
        recipe: of the run.
        store: its database.
        run: its directory.
        objectives: a subset of the recipe's objectives to decide the front on; all by default.
        split: `search` to see the run as the search saw it, whatever is confirmed by now.

    Raises:
        UserError: an objective that the recipe does not have.
    """
    wanted = _objectives(recipe, objectives)
    points = sorted((p for p in store.points() if p.state == "COMPLETE"), key=lambda point: point.turn or 0)
    searched = store.scores("search")
    reported = {} if split == "search" else store.scores("report")
    confirmed = [point for point in points if point.id in reported]
    split, scores = ("report", reported) if confirmed else ("search", searched)
    ranked = confirmed or points
    rows = [_row(recipe, point, searched, reported) for point in points]
    document: dict[str, Any] = {
        "run": recipe.name,
        "objectives": dict(wanted),
        "constraints": [str(constraint) for constraint in recipe.search.constraints],
        "split": split,
        "hypervolume": 0.0,
        "reference": _reference(recipe, store, wanted),
        "picks": {},
        "points": rows,
    }
    if not ranked or "base" not in scores:
        return document
    directions = tuple(wanted.values())
    values = np.array([[scores[point.id][name, ""].value for name in wanted] for point in ranked])
    allowed = np.array([feasible(recipe.search.constraints, scores[p.id], scores["base"]) for p in ranked])
    found = front.summary(values, directions, allowed, document["reference"])
    sure = front.p_on_front(_items(recipe, store, run, ranked, split, wanted), directions, allowed, seed=recipe.seed)
    document["hypervolume"] = found["hypervolume"]
    place = {point.id: index for index, point in enumerate(ranked)}
    for row in rows:
        index = place.get(row["id"])
        row["feasible"] = bool(allowed[index]) if index is not None else _feasible(recipe, row["id"], searched)
        row["on_front"] = index is not None and bool(found["mask"][index])
        row["p_on_front"] = float(sure[index]) if index is not None else 0.0
    if found["mask"].any():
        ids = [point.id for point in ranked]
        names = dict.fromkeys(("knee", "safest" if "safety" in wanted else "", *(f"best-{name}" for name in wanted)))
        document["picks"] = {n: front.pick(n, ids, values, wanted, found["mask"]) for n in names if n}
    return document


def _objectives(recipe: Recipe, chosen: Sequence[str]) -> dict[str, str]:
    known = dict(recipe.search.objectives)
    missing = [name for name in chosen if name not in known]
    if missing:
        rule = f"the recipe's objectives are {', '.join(known)}"
        raise UserError(Problem("", None, "--objective", rule, missing[0], suggestion(missing[0], known)))
    return {name: known[name] for name in known if not chosen or name in chosen}


def _reference(recipe: Recipe, store: Store, wanted: Mapping[str, str]) -> list[float]:
    full = store.get("reference")
    if full is None:
        return []
    return [value for name, value in zip(recipe.search.objectives, full, strict=True) if name in wanted]


def _feasible(recipe: Recipe, point: str, searched: Mapping[str, Scores]) -> bool:
    return feasible(recipe.search.constraints, searched[point], searched["base"])


def _row(
    recipe: Recipe, point: Point, searched: Mapping[str, Scores], reported: Mapping[str, Scores]
) -> dict[str, Any]:
    split, scores = ("report", reported[point.id]) if point.id in reported else ("search", searched[point.id])
    base = (reported if split == "report" else searched).get("base", scores)
    languages: dict[str, dict[str, Any]] = {}
    for (evaluator, language), score in scores.items():
        if language:
            languages.setdefault(language, {})[evaluator] = _score(score, split)
    row: dict[str, Any] = {
        "id": point.id,
        "kind": point.kind,
        "method": point.method,
        "params": {},
        "weights": {},
        "scores": {name: _score(score, split) for (name, language), score in scores.items() if not language},
        "languages": {language: languages[language] for language in recipe.languages if language in languages},
        "feasible": True,
        "on_front": False,
        "p_on_front": 0.0,
        "violations": {name: gap for name, gap in margins(recipe.search.constraints, scores, base).items() if gap > 0},
        "cost": {"seconds": point.seconds},
    }
    if split == "report" and point.id in searched:
        row["search_scores"] = {
            n: _score(s, "search") for (n, language), s in searched[point.id].items() if not language
        }
    if point.kind == "merge":
        merge = merge_of(point)
        experts = recipe.search.experts
        row["params"] = {name: value for name, value in merge.params if name != "weight"}
        row["weights"] = dict(zip(experts, weights(merge, len(experts)), strict=True))
    return row


def merge_of(point: Point) -> Merge:
    """The merge that a stored point stands for."""
    params = point.params["merge"]
    frozen = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in sorted(params.items()))
    assert point.method is not None
    return Merge(point.method, frozen, int(point.params.get("seed", 0)))


def _score(score: Score, split: str) -> dict[str, Any]:
    return {"value": score.value, "stderr": score.stderr, "n": score.n, "split": split}


def _items(
    recipe: Recipe, store: Store, run: Path, points: Sequence[Point], split: str, wanted: Mapping[str, str]
) -> list[tuple[front.Array, list[str]]]:
    groups: Mapping[str, list[str]] = store.get(f"groups.{split}")
    values = [items.read_values(run / "items", point.id, split) for point in points]
    return [(np.stack([row[name] for row in values]).astype(np.float64), groups[name]) for name in wanted]
