"""The front document: every scored point with its scores, as `mergefront front RUN --json` prints it.

One object feeds the table, the JSON, the report, `front.csv` and the picks, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mergers._spec import Merge, weights
from search._space.stored import from_json, to_json, typical, varies
from search.errors import Problem, UserError, suggestion
from search.recipe import Recipe
from search.statistics import aggregates, confidence, front
from search.statistics.feasible import feasible, margins
from search.statistics.relative import relative_changes
from search.statistics.uncertainty import LEVEL, Layout
from search.stopping import endings
from search.store import Point, Scores, Store

from .partners import partners

SCORED = ("COMPLETE", "PRUNED")


def front_document(
    recipe: Recipe, store: Store, run: Path, *, objectives: Sequence[str] = (), split: str | None = None
) -> dict[str, Any]:
    """Build the document of a run as far as it has come.

    Points are in the order in which they were scored. A confirmed point carries its scores on the report split, with
    those that the search saw under `search_scores`; once any point is confirmed, the front, its probabilities and the
    hypervolume are decided among the confirmed ones alone. A merge that a race dropped (`state` PRUNED) has the scores
    of the items that it was scored on, and is never on the front.

    Every score has `low` and `high`, its 90 % interval (`level`). `hypervolume` is that of the values as measured;
    `hypervolume_interval` is for the true one of the same front, and `hypervolume_optimism` is how far the measured one
    is too large on average (`volume.hypervolume_interval`). `optimism` is the gap between the splits over the
    confirmed merges that were on the search's front, `items` what the search was scored on and what races saved.
    `stopped` says why each search ended, `look_alikes` which evaluator stands beside which (`partners`). A point
    has `relative` where a judge labelled harm: evaluator -> change in percent of the base's, with `stderr`, `n`, and
    the same by language.

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
    points = sorted((p for p in store.points() if p.state in SCORED), key=lambda point: point.turn or 0)
    searched = _scores(recipe, store, "search")
    reported = {} if split == "search" else _scores(recipe, store, "report")
    confirmed = [point for point in points if point.id in reported]
    split, scores = ("report", reported) if confirmed else ("search", searched)
    ranked = confirmed or [point for point in points if point.state == "COMPLETE"]
    known = {name: confidence.layouts(store, name) for name in ("search", "report")}
    rows = [_row(recipe, point, searched, reported, known) for point in points]
    splits = {point.id: "report" if point.id in reported else "search" for point in points}
    changes = relative_changes(recipe, store, run / "items", splits)
    for row in rows:
        row.update({"relative": changes[row["id"]]} if row["id"] in changes else {})
    document: dict[str, Any] = {
        "run": recipe.name,
        "objectives": dict(wanted),
        "look_alikes": partners(recipe),
        "constraints": [str(constraint) for constraint in recipe.search.constraints],
        "split": split,
        "level": LEVEL,
        "hypervolume": 0.0,
        "hypervolume_interval": [0.0, 0.0],
        "hypervolume_optimism": 0.0,
        "optimism": {},
        "items": confidence.spending(store, searched),
        "reference": _reference(recipe, store, wanted),
        "stopped": endings(store.events("stopped")),
        "picks": {},
        "points": rows,
    }
    if not ranked or "base" not in scores:
        return document
    directions = tuple(wanted.values())
    chosen = [list(aggregates.objective_scores(wanted, scores[point.id]).values()) for point in ranked]
    values = np.array([[score.value for score in row] for row in chosen])
    errors = np.array([[score.stderr for score in row] for row in chosen])
    allowed = np.array([feasible(recipe.search.constraints, scores[p.id], scores["base"]) for p in ranked])
    found = front.summary(values, directions, allowed, document["reference"])
    sure, volume = confidence.sureness(
        store,
        run / "items",
        split,
        [point.id for point in ranked],
        scores,
        wanted,
        recipe.search.constraints,
        values,
        errors,
        document["reference"],
        recipe.seed,
    )
    document["hypervolume"] = found["hypervolume"]
    document["hypervolume_interval"], document["hypervolume_optimism"] = list(volume[:2]), volume[2]
    if confirmed:
        merges = _selected(recipe, [point for point in points if point.state == "COMPLETE"], searched, wanted, reported)
        document["optimism"] = confidence.optimism(store, run / "items", merges, wanted, recipe.seed)
    place = {point.id: index for index, point in enumerate(ranked)}
    for row in rows:
        index = place.get(row["id"])
        row["feasible"] = bool(allowed[index]) if index is not None else _feasible(recipe, row["id"], searched)
        row["on_front"] = index is not None and bool(found["mask"][index])
        row["p_on_front"] = float(sure[index]) if index is not None else 0.0
    if found["mask"].any():
        ids = [point.id for point in ranked]
        names = dict.fromkeys(
            ("knee", "safest" if aggregates.safety(wanted) else "", *(f"best-{name}" for name in wanted))
        )
        document["picks"] = {n: front.pick(n, ids, values, wanted, found["mask"]) for n in names if n}
    return document


def _selected(
    recipe: Recipe,
    points: Sequence[Point],
    searched: Mapping[str, Scores],
    wanted: Mapping[str, str],
    reported: Mapping[str, Scores],
) -> list[str]:
    """The confirmed merges that the search had on its front: those that its luck may have chosen."""
    values = np.array([[searched[point.id][name, ""].value for name in wanted] for point in points])
    allowed = np.array([_feasible(recipe, point.id, searched) for point in points], dtype=bool)
    shown = front.non_dominated(values, tuple(wanted.values()), allowed)
    chosen = zip(points, shown, strict=True)
    return [point.id for point, on_front in chosen if on_front and point.kind == "merge" and point.id in reported]


def _scores(recipe: Recipe, store: Store, split: str) -> dict[str, Scores]:
    """Scores of every point, those of objectives over languages under their text."""
    objectives = recipe.search.objectives
    return {point: aggregates.completed(objectives, scores) for point, scores in store.scores(split).items()}


def _objectives(recipe: Recipe, chosen: Sequence[str]) -> dict[str, str]:
    known, chosen = dict(recipe.search.objectives), [aggregates.canonical(name) for name in chosen]
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
    recipe: Recipe,
    point: Point,
    searched: Mapping[str, Scores],
    reported: Mapping[str, Scores],
    known: Mapping[str, Mapping[str, Layout]],
) -> dict[str, Any]:
    split, scores = ("report", reported[point.id]) if point.id in reported else ("search", searched[point.id])
    base = (reported if split == "report" else searched).get("base", scores)
    stated = confidence.stated(scores, split, known[split], recipe.search.objectives)
    languages: dict[str, dict[str, Any]] = {}
    for (name, language), score in stated.items():
        if language:
            languages.setdefault(language, {})[name] = score
    row: dict[str, Any] = {
        "id": point.id,
        "kind": point.kind,
        "method": point.method,
        "state": point.state,
        "params": {},
        "weights": {},
        "scores": {name: score for (name, language), score in stated.items() if not language},
        "languages": {language: languages[language] for language in recipe.languages if language in languages},
        "feasible": True,
        "on_front": False,
        "p_on_front": 0.0,
        "violations": {name: gap for name, gap in margins(recipe.search.constraints, scores, base).items() if gap > 0},
        "cost": {"seconds": point.seconds, "tokens": point.tokens},
    }
    if split == "report" and point.id in searched:
        before = confidence.stated(searched[point.id], "search", known["search"], recipe.search.objectives)
        row["search_scores"] = {name: score for (name, language), score in before.items() if not language}
    if point.kind == "merge":
        merge = merge_of(point)
        experts = recipe.search.experts
        row["params"] = {name: value for name, value in typical(merge).items() if name != "weight"}
        row["by_layer"] = {name: to_json(merge)[name] for name, value in merge.params if varies(value)}
        row["weights"] = dict(zip(experts, weights(merge, len(experts)), strict=True))
    return row


def merge_of(point: Point) -> Merge:
    """The merge that a stored point stands for."""
    assert point.method is not None
    return from_json(point.method, point.params["merge"], int(point.params.get("seed", 0)))
