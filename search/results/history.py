"""What the report shows beside the front: how the search went, what training cost, what failed, where it ran."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from evaluators._stats import paired_difference
from evaluators._types import Score
from search._training import accounts
from search.experts import Model
from search.run.items import read_values
from search.run.rundir import Run
from search.statistics import aggregates, confidence, front
from search.statistics.feasible import feasible
from search.statistics.uncertainty import draws, measured, objectives_of

PACKAGES = ("mergefront", "ray", "torch", "transformers", "trl", "deepspeed", "optuna", "datasets")


def history_of(run: Run, known: Sequence[Model]) -> dict[str, Any]:
    """The history of a run.

    Args:
        run: open.
        known: all its models, steps on the way included.

    Returns:
        `points`: merges in the order scored, with seconds since the first was asked and the hypervolume reached on
        the search split by then (all searches together, unmerged models included); `training`: loss by step and costs
        of each training, `tokens` what it was trained on, `tunings` what was tried, `spent` the training FLOPs of each
        model and of a merge, `matches` how well matched baselines are matched, `contamination` training prompts that
        are items too (`search._training.accounts`); `failed`: candidates without a score; `timing`: seconds by stage,
        summed over resumes; `machine`: where it ran; `paired`: confirmed merges minus each unmerged model on the same
        items, value and standard error by evaluator, which is what "merge or mix?" is decided on.
    """
    points = run.store.points()
    return {
        "points": _volumes(run),
        "training": accounts.trainings(known),
        "tokens": accounts.tokens(known),
        "tunings": accounts.tunings(known),
        "spent": accounts.spent(run.recipe, known),
        "matches": accounts.matches(run.recipe, known),
        "contamination": run.store.get("contamination", []),
        "failed": [
            {"id": point.id, "method": point.method, "reason": point.reason}
            for point in points
            if point.state == "FAILED"
        ],
        "timing": _timing(run),
        "machine": machine(),
        "paired": _paired(run),
    }


def machine() -> dict[str, Any]:
    """The machine and the versions that matter for a bug report."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "versions": versions,
    }


def _volumes(run: Run) -> list[dict[str, Any]]:
    recipe, reference = run.recipe, run.store.get("reference")
    if reference is None:
        return []
    directions = tuple(recipe.search.objectives.values())
    scores = run.store.scores("search")
    done = sorted((p for p in run.store.points() if p.state == "COMPLETE"), key=lambda point: point.turn or 0)
    asked = [point.asked for point in done if point.kind == "merge" and point.asked is not None]
    found, rows = [], []
    for point in done:
        values = [s.value for s in aggregates.objective_scores(recipe.search.objectives, scores[point.id]).values()]
        if feasible(recipe.search.constraints, scores[point.id], scores["base"]):
            found.append(values)
        if point.kind == "merge":
            volume = front.hypervolume(np.array(found).reshape(-1, len(directions)), directions, reference)
            seconds = (point.finished or 0.0) - min(asked)
            rows.append({"id": point.id, "method": point.method, "seconds": seconds, "hypervolume": volume})
    return rows


def _paired(run: Run) -> list[dict[str, Any]]:
    confirmed = run.store.scores("report")
    groups = run.store.get("groups.report", {})
    points = [point for point in run.store.points() if point.id in confirmed]
    values = {point.id: read_values(run.items, point.id, "report") for point in points}
    merges = [point.id for point in points if point.kind == "merge"]
    unmerged = [point.id for point in points if point.kind != "merge"]
    over_languages = {name: way for name, way in run.recipe.search.objectives.items() if name not in groups}
    gains = _gains(run, [point.id for point in points], over_languages)
    rows = []
    for a in merges:
        for b in unmerged:
            found = {name: paired_difference(values[a][name], values[b][name], groups[name]) for name in groups}
            found |= {name: gain(a, b) for name, gain in gains.items()}
            scores = {name: {"value": score.value, "stderr": score.stderr} for name, score in found.items()}
            rows.append({"a": a, "b": b, "scores": scores})
    return rows


def _gains(run: Run, points: Sequence[str], objectives: Mapping[str, str]) -> dict[str, Callable[[str, str], Score]]:
    """For each aggregate over languages: one point minus another on the same items, by their bootstrap."""
    if not objectives or not points:
        return {}
    known, quantities = confidence.layouts(run.store, "report"), objectives_of(objectives)
    results = confidence.values_of(run.items, points, "report")
    exact = measured(known, results, quantities)
    drawn = draws(known, results, quantities, seed=run.recipe.seed)
    place = {point: index for index, point in enumerate(points)}

    def gain(a: str, b: str, column: int) -> Score:
        first, second = place[a], place[b]
        spread = float((drawn[first, :, column] - drawn[second, :, column]).std(ddof=1))
        items = results[quantities[column].evaluator].shape[1]
        return Score(float(exact[first, column] - exact[second, column]), spread, items)

    return {name: partial(gain, column=column) for column, name in enumerate(objectives)}


def _timing(run: Run) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for event in run.store.events("stage"):
        seconds[event["name"]] = seconds.get(event["name"], 0.0) + event["seconds"]
    return seconds
