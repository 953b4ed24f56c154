from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import mergefront
from cluster.local import LocalPool
from search._study.least import least_infeasible
from search.recipe import parse_recipe
from search.results.table import ended_line, front_table
from search.searches import unfinished
from search.stopping import RuleError, Rules, Stagnation, duration, rules_of, stagnated
from search.study import run_search

from .landscape import ITEMS, TOKENS, Landscape, plan, search_in, store_in
from .test_recipe import VALID


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90.0), (0.5, 0.5), ("90s", 90.0), ("15m", 900.0), ("2h", 7200.0), ("1h30m", 5400.0), ("2d", 172800.0)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", [0, -1, "soon", "2 weeks", "", None, True, math.nan, math.inf, [1]])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(RuleError):
        duration(text)


def test_rules_from_a_mapping() -> None:
    given = {"candidates": 5, "wall_time": "2h", "cost": 60, "stagnation": {"candidates": 40, "gain": 0.001}}
    assert rules_of(given) == Rules(5, 7200.0, cost=60.0, stagnation=Stagnation(40, 0.001))
    assert rules_of(7) == Rules(candidates=7)
    for bad in ({"stagnation": 3}, {"stagnation": {"candidates": 3, "gain": 2}}, {"stagnation": {"k": 1}}, {"x": 1}):
        with pytest.raises(RuleError):
            rules_of(bad)


def test_stagnation_is_measured_on_the_front() -> None:
    values = np.array([[0.5, 0.5], [0.6, 0.4], [0.1, 0.1], [0.2, 0.2], [0.5, 0.51]])
    everywhere = np.ones(5, dtype=bool)
    ways, reference = ("max", "max"), (0.0, 0.0)
    # Volumes: 0.25, 0.29, 0.29, 0.29, 0.295.
    assert stagnated(Stagnation(2), values[:4], ways, everywhere[:4], reference) is not None
    assert stagnated(Stagnation(2), values[:3], ways, everywhere[:3], reference) is None
    assert stagnated(Stagnation(2), values, ways, everywhere, reference) is None
    found = stagnated(Stagnation(2, 0.02), values, ways, everywhere, reference)
    assert found is not None
    assert found.reason == "the hypervolume grew by 1.69 % over the last 2 candidates, the limit is 2 %"
    nowhere = np.zeros(5, dtype=bool)
    assert stagnated(Stagnation(2), values, ways, nowhere, reference) is None
    assert stagnated(Stagnation(5), values, ways, everywhere, reference) is None


def search(**budget: Any) -> mergefront.Study:
    def score(params: Mapping[str, Any]) -> dict[str, float]:
        time.sleep(0.02)
        return {"up": round(params["x"], 1), "down": round(1 - params["x"], 1)}

    objectives = {"up": "max", "down": "max"}
    return mergefront.search(score, {"x": (0.0, 1.0)}, objectives=objectives, budget=budget, sampler="qmc")


@pytest.mark.parametrize("rule", ["wall_time", "cost"])
def test_time_and_cost_end_a_search(rule: str) -> None:
    study = search(**{rule: 0.3}, candidates=500)
    assert study.rule == rule
    assert 1 <= len(study.points) <= 16
    assert rule.split("_")[0] in study.stopped or "evaluation" in study.stopped


def test_stagnation_ends_a_search() -> None:
    study = search(stagnation={"candidates": 10}, candidates=300)
    assert study.rule == "stagnation"
    assert 11 <= len(study.points) < 100


def test_wall_time_counts_over_resumes_but_not_between(tmp_path: Path) -> None:
    def go_on(candidates: int, wall_time: float) -> mergefront.Study:
        def score(params: Mapping[str, Any]) -> dict[str, float]:
            time.sleep(0.1)
            return {"a": params["x"]}

        budget = {"candidates": candidates, "wall_time": wall_time}
        box = {"x": (0.0, 1.0)}
        return mergefront.search(score, box, objectives={"a": "max"}, budget=budget, storage=tmp_path / "s.db")

    assert go_on(3, 60.0).rule == "candidates"
    time.sleep(1.0)
    assert go_on(4, 1.0).rule in ("candidates", "wall_time")
    study = go_on(100, 0.4)
    assert study.rule == "wall_time"
    assert len(study.points) <= 5
    assert len(go_on(100, 0.4).points) == len(study.points)


def test_items_end_a_search_of_merges_and_the_reason_is_kept(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    wanted = plan(tmp_path, rules=Rules(candidates=50, items=500), in_flight=2)
    stop = run_search(wanted, LocalPool(Landscape()), store)
    assert stop is not None
    assert (stop.rule, stop.reason) == ("items", "600 items evaluated, the limit is 500")
    # 120 items each: the fifth passes the limit, and what was under way then is finished.
    points = store.points("linear")
    assert len(points) == 6 or len(points) == 5
    assert {point.state for point in points} == {"COMPLETE"}
    events = store.events("stopped")
    assert [(event["search"], event["rule"]) for event in events] == [("linear", "items")]
    assert unfinished(store, [wanted]) == []
    assert len(unfinished(store, [plan(tmp_path, rules=Rules(candidates=50, items=900))])) == 1
    assert unfinished(store, [plan(tmp_path, rules=Rules(candidates=5))]) == []
    store.close()


def test_tokens_end_a_search_and_are_kept_for_every_candidate(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    each = 2 * ITEMS * TOKENS
    stop = run_search(
        plan(tmp_path, rules=Rules(candidates=50, tokens=3 * each - 1), in_flight=1), LocalPool(Landscape()), store
    )
    assert stop is not None
    assert (stop.rule, stop.reason) == ("tokens", f"{3 * each} tokens processed, the limit is {3 * each - 1}")
    assert [point.tokens for point in store.points("linear")] == [each] * 3
    assert store.totals().tokens == 3 * each
    store.close()


def test_a_study_of_an_earlier_version_is_read_and_goes_on(tmp_path: Path) -> None:
    store = search_in(tmp_path, plan(tmp_path, rules=Rules(candidates=3)))
    before = store.points("linear")
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE points DROP COLUMN tokens"))
        totals = {name: value for name, value in asdict(store.totals()).items() if name != "tokens"}
    store.put("totals", totals)
    store.close()
    later = store_in(tmp_path, "second")
    assert [(p.id, p.key, p.state, p.tokens) for p in later.points("linear")] == [
        (p.id, p.key, p.state, None) for p in before
    ]
    run_search(plan(tmp_path, rules=Rules(candidates=5)), LocalPool(Landscape()), later)
    assert later.totals().tokens == 2 * 2 * ITEMS * TOKENS
    later.close()


def test_a_limit_that_is_raised_goes_on(tmp_path: Path) -> None:
    for items, count in ((300, 3), (700, 6)):
        store = store_in(tmp_path, f"driver-{items}")
        store.take_over()
        run_search(plan(tmp_path, rules=Rules(50, items=items), in_flight=1), LocalPool(Landscape()), store)
        assert len(store.points("linear")) == count
        store.close()


def test_stop_in_a_recipe() -> None:
    def with_stop(text: str) -> str:
        return VALID.replace("  candidates:", f"  stop: {text}\n  candidates:", 1)

    assert "  candidates:" in VALID
    recipe = parse_recipe(
        with_stop("{wall_time: 2h, items: 1e6, tokens: 3e9, cost: 90m, stagnation: {candidates: 40, gain: 0.001}}")
    )
    rules = recipe.search.stop.rules(24)
    assert rules == Rules(24, 7200.0, 1e6, 5400.0, Stagnation(40, 0.001), tokens=3e9)
    assert recipe.fingerprint() == parse_recipe(VALID).fingerprint(), "limits may change between resumes"
    for text, line in (
        ("{wall_time: soon}", "search.stop.wall_time: must be a duration above 0, got 'soon'; write seconds, or"),
        ("{items: 0}", "search.stop.items: must be a number above 0"),
        ("{tokens: many}", "search.stop.tokens: must be a number above 0, got 'many'"),
        ("{stagnation: {gain: 0.1}}", "search.stop.stagnation"),
        ("{wall: 2h}", "search.stop.wall"),
    ):
        with pytest.raises(mergefront.UserError) as found:
            parse_recipe(with_stop(text))
        assert line in str(found.value)


def test_the_front_says_why_searches_ended_and_what_comes_closest() -> None:
    document: dict[str, Any] = {
        "objectives": {"general": "max"},
        "picks": {},
        "stopped": {"linear": "12 candidates", "ties": "12 candidates", "slerp": "9 s of wall time, the limit is 9 s"},
        "points": [
            {"id": "base", "kind": "base", "on_front": False, "feasible": False, "state": "COMPLETE"}
            | {"violations": {"harm <= 0.1": 0.4, "general >= 0.5": 0.1}},
            {"id": "3", "kind": "merge", "on_front": False, "feasible": False, "state": "COMPLETE"}
            | {"violations": {"harm <= 0.1": 0.1}},
        ],
    }
    assert (
        ended_line(document)
        == "searches ended by: linear, ties: 12 candidates; slerp: 9 s of wall time, the limit is 9 s"
    )
    said = "no point keeps all constraints; the least infeasible, #3, misses harm <= 0.1 by 0.1"
    assert front_table(document) == said
    document["points"] = []
    assert front_table(document) == "no point is on the front yet"


def test_least_infeasible_does_not_depend_on_units() -> None:
    first = [{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 100.0}, {"a": 0.0, "b": 40.0}]
    assert least_infeasible(first) == 2
    assert least_infeasible([{name: 1000 * gap for name, gap in point.items()} for point in first]) == 2
    assert least_infeasible([{"a": 2.0}, {"a": 2.0}]) == 0
