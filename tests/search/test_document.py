"""The front document on a database made here, with results of known rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators._types import Item
from search.recipe import Recipe, parse_recipe
from search.results.document import front_document
from search.results.table import front_table
from search.run import items
from search.scoring.objective import Grader, Results
from search.statistics.front import reference_point
from search.store import Store

RECIPE = """\
name: small
base: models/base
languages: [en, hi]
experts:
  general: {path: models/general}
  safety: {path: models/safety}
evaluators:
  general: {kind: exact_match, data: eval/general.jsonl}
  safety: {kind: exact_match, data: eval/safety.jsonl}
search:
  experts: [general, safety]
  methods: [linear]
  objectives: OBJECTIVES
  constraints: ["general >= base - 0.3"]
"""
ITEMS = 120
GRADERS = tuple(
    Grader(
        name,
        "exact_match",
        (),
        tuple(
            Item(f"{name}-{split}-{i}", "p", "", ("en", "hi")[i % 2], f"g{i // 2}", "", split)
            for split in ("search", "report")
            for i in range(ITEMS)
        ),
    )
    for name in ("general", "safety")
)
RATES = {"base": (0.5, 0.3), "general": (0.8, 0.2), "safety": (0.45, 0.8)}
MERGES = {"1": (0.7, 0.5), "2": (0.6, 0.7), "3": (0.4, 0.4), "4": (0.02, 0.95), "5": (0.5, 0.3)}
CONFIRMED = ("base", "general", "safety", "1", "2")


def results(name: str, split: str, count: int = ITEMS) -> Results:
    rates = {**RATES, **MERGES}[name]
    rng = np.random.default_rng((list({**RATES, **MERGES}).index(name), split == "report"))
    hard = np.random.default_rng(split == "report").random(ITEMS)
    found = {}
    for grader, rate in zip(GRADERS, rates, strict=True):
        # A mix of what an item asks and luck; uniform enough for the rates to hold within a few points.
        found[grader.name] = (np.where(rng.random(ITEMS) < 0.6, hard, rng.random(ITEMS)) < rate)[:count]
    return {name: row.astype(np.float32) for name, row in found.items()}


def run_in(folder: Path, *, confirmed: bool, objectives: str = "{general: max, safety: max}") -> tuple[Recipe, Store]:
    recipe = parse_recipe(RECIPE.replace("OBJECTIVES", objectives), directory=str(folder))
    store = Store(folder / "study.db", owner="me")
    store.create()
    (folder / "items").mkdir()
    for split in ("search", "report"):
        store.put(f"groups.{split}", {g.name: [item.group for item in g.split(split)] for g in GRADERS})
        store.put(f"languages.{split}", {g.name: [item.language for item in g.split(split)] for g in GRADERS})
    for name in RATES:
        store.add_model(name, "base" if name == "base" else "expert", f"key:{name}")
    for number, name in enumerate(MERGES):
        weight = {"weight": [0.1 * number, 1.0]}
        store.add_candidate(f"key:{name}", "linear", "linear", {"merge": weight, "values": {}, "number": number})
    for name in (*RATES, *MERGES):
        found = results(name, "search")
        items.write_items(folder / "items", name, "search", found, GRADERS)
        store.finish(name, 1.0, "search", items.scores_of(found, GRADERS, "search"))
    unmerged = np.array([[store.scores("search")[name][e, ""].value for e in ("general", "safety")] for name in RATES])
    store.put("reference", reference_point(unmerged, ("max", "max")).tolist())
    for name in CONFIRMED if confirmed else ():
        found = results(name, "report")
        items.write_items(folder / "items", name, "report", found, GRADERS)
        store.add_scores(name, "report", items.scores_of(found, GRADERS, "report"))
    return recipe, store


def rows_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in document["points"]}


def test_every_score_has_an_interval_around_it(tmp_path: Path) -> None:
    recipe, store = run_in(tmp_path, confirmed=False)
    document = front_document(recipe, store, tmp_path)
    assert document["level"] == 0.9
    for row in document["points"]:
        assert row["state"] == "COMPLETE"
        for score in (*row["scores"].values(), *(s for by in row["languages"].values() for s in by.values())):
            assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
            assert score["low"] < score["high"]
    general = rows_of(document)["1"]
    assert general["languages"]["hi"]["general"]["high"] - general["languages"]["hi"]["general"]["low"] > (
        general["scores"]["general"]["high"] - general["scores"]["general"]["low"]
    ), "half of the items say less"


def test_the_hypervolume_has_an_interval_and_the_front_probabilities(tmp_path: Path) -> None:
    recipe, store = run_in(tmp_path, confirmed=False)
    document = front_document(recipe, store, tmp_path)
    low, high = document["hypervolume_interval"]
    assert 0 < low < document["hypervolume"]
    assert low < high
    assert document["hypervolume_optimism"] >= 0
    rows = rows_of(document)
    assert all(0 < row["p_on_front"] <= 1 for row in rows.values() if row["on_front"])
    assert rows["3"]["p_on_front"] < 0.05, "clearly dominated"
    assert rows["4"]["p_on_front"] < 0.01, "best on safety and infeasible beyond doubt"
    assert not rows["4"]["feasible"]
    assert document["optimism"] == {}
    assert document["items"] == {"scored": 5 * 240, "full": 5 * 240, "dropped": 0}


def test_the_optimism_gap_is_the_mean_over_the_confirmed_merges_of_the_searchs_front(tmp_path: Path) -> None:
    recipe, store = run_in(tmp_path, confirmed=True)
    document = front_document(recipe, store, tmp_path)
    rows = rows_of(document)
    assert [name for name, row in rows.items() if "search_scores" in row] == list(CONFIRMED)
    chosen = [rows[name] for name in ("1", "2")]
    for objective, gap in document["optimism"].items():
        means = [row["search_scores"][objective]["value"] - row["scores"][objective]["value"] for row in chosen]
        assert gap["value"] == pytest.approx(np.mean(means))
        assert gap["low"] < gap["value"] < gap["high"]
        assert gap["points"] == 2
        # Not smaller than the report split's own error, and not as large as two independent points' together.
        assert 0.02 < gap["stderr"] < 0.09
    assert "optimism of the search, mean over its 2 confirmed merges" in front_table(document)


def test_objectives_over_languages(tmp_path: Path) -> None:
    recipe, store = run_in(tmp_path, confirmed=True, objectives='{general: max, "min_language(safety)": max}')
    document = front_document(recipe, store, tmp_path)
    for row in document["points"]:
        score = row["scores"]["min_language(safety)"]
        assert score["low"] <= score["value"] <= score["high"]
        assert score["value"] == pytest.approx(min(by["safety"]["value"] for by in row["languages"].values()))
    assert set(document["optimism"]) == {"general", "min_language(safety)"}
    assert document["items"]["scored"] == document["items"]["full"]


def test_what_a_race_dropped_keeps_its_scores_and_is_never_on_the_front(tmp_path: Path) -> None:
    recipe, store = run_in(tmp_path, confirmed=False)
    store.add_candidate("key:6", "linear", "linear", {"merge": {"weight": [9.0, 1.0]}, "values": {}, "number": 9})
    lucky = {name: np.ones(30, dtype=np.float32) for name in ("general", "safety")}
    counts = {"general": 30, "safety": 30}
    store.finish("6", 1.0, "search", items.scores_of(lucky, GRADERS, "search", counts), state="PRUNED")
    document = front_document(recipe, store, tmp_path)
    row = rows_of(document)["6"]
    assert (row["state"], row["on_front"], row["p_on_front"]) == ("PRUNED", False, 0.0)
    assert row["scores"]["general"]["n"] == 30
    assert row["scores"]["general"]["low"] < 0.9, "thirty items of fifteen groups"
    assert rows_of(document)["1"]["on_front"], "nobody is kept off the front by a part of the items"
    assert document["items"] == {"scored": 5 * 240 + 60, "full": 6 * 240, "dropped": 1}
    assert "(scored in part)" in front_table(document, every=True)
    assert document["picks"].get("best-general") != "6"
