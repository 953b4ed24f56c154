from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from search._recipe.constraints import parse
from search.racing.race import Race, current_front, judge
from search.statistics.aggregates import Aggregate
from search.statistics.uncertainty import Layout, Quantity

ITEMS = 200
LAYOUT = Layout(tuple(f"g{i}" for i in range(ITEMS)), tuple("ef"[i % 2] for i in range(ITEMS)))
A, B = Quantity(Aggregate("mean", "a")), Quantity(Aggregate("mean", "b"))
RACE = Race((0.25, 1.0), 0.95, (A, B), ("max", "max"), (0.0, 0.0), (), {"a": LAYOUT, "b": LAYOUT}, tolerance=0.0)
ONE = replace(RACE, objectives=(A,), directions=("max",), reference=(0.0,), layouts={"a": LAYOUT})


def solved(*counts: int) -> np.ndarray:
    """Points that solve the first so many items."""
    return (np.arange(ITEMS) < np.array(counts)[:, None]).astype(float)


def test_a_clearly_dominated_candidate_is_dropped_and_the_rival_named() -> None:
    front = {"a": solved(30, 190), "b": solved(190, 150)}
    verdict = judge(RACE, {"a": solved(60), "b": solved(40)}, front)
    assert verdict.drop
    assert verdict.p_dominated > 0.99
    assert verdict.rival == 1


def test_better_on_one_objective_is_kept() -> None:
    front = {"a": solved(190), "b": solved(20)}
    verdict = judge(RACE, {"a": solved(60), "b": solved(60)}, front)
    assert not verdict.drop
    assert verdict.p_dominated < 0.01


def test_an_empty_front_drops_nobody() -> None:
    verdict = judge(RACE, {"a": solved(0), "b": solved(0)}, {"a": np.zeros((0, ITEMS)), "b": np.zeros((0, ITEMS))})
    assert (verdict.drop, verdict.p_lost, verdict.rival) == (False, 0.0, None)


def test_the_probability_for_items_lost_without_one_won_is_about_that_of_jeffreys() -> None:
    # P(share of losses > 1/2) under Beta(k + 1/2, 1/2), for k = 1 to 4 items lost and none won.
    for lost, expected in ((1, 0.818), (2, 0.915), (3, 0.959), (4, 0.980)):
        rival = np.zeros((1, ITEMS))
        rival[0, 50:150] = 1.0
        own = rival.copy()
        own[0, 50 : 50 + lost] = 0.0
        assert judge(ONE, {"a": own}, {"a": rival}).p_dominated == pytest.approx(expected, abs=0.08)


def test_nobody_beats_a_rival_that_solved_everything() -> None:
    # Equal on the one objective at its bound, clearly worse on the other: half an item of luck cannot help.
    front = {"a": solved(ITEMS), "b": solved(150)}
    assert judge(RACE, {"a": solved(ITEMS), "b": solved(60)}, front).drop


def test_equals_are_kept() -> None:
    front = {"a": solved(ITEMS), "b": solved(ITEMS)}
    assert not judge(RACE, {"a": solved(ITEMS), "b": solved(ITEMS)}, front).drop


def test_hard_items_cancel_in_the_comparison() -> None:
    # Twelve points worse on 200 items: within the noise of two separate scores, beyond it item by item.
    rng = np.random.default_rng(0)
    rival = (rng.random((1, ITEMS)) < 0.5).astype(float)
    own = rival.copy()
    own[0, np.flatnonzero(rival[0])[:24]] = 0.0
    assert judge(ONE, {"a": own}, {"a": rival}).drop
    apart = rng.permutation(own[0])[None]
    assert judge(ONE, {"a": apart}, {"a": rival}).p_dominated < judge(ONE, {"a": own}, {"a": rival}).p_dominated


def test_within_the_tolerance_better_counts_as_no_better() -> None:
    front = {"a": solved(100), "b": solved(150)}
    candidate = {"a": solved(102), "b": solved(60)}
    assert not judge(RACE, candidate, front).drop
    assert judge(replace(RACE, tolerance=0.1), candidate, front).drop


def test_minimised_objectives() -> None:
    race = replace(RACE, directions=("max", "min"), reference=(0.0, 1.0))
    front = {"a": solved(150), "b": solved(20)}
    assert judge(race, {"a": solved(60), "b": solved(100)}, front).drop
    assert not judge(race, {"a": solved(60), "b": solved(0)}, front).drop


def test_breaking_a_constraint_beyond_doubt_is_enough() -> None:
    race = replace(RACE, constraints=(parse("a >= base - 0.1"),))
    nobody = {"a": solved(0), "b": solved(0)}
    base = {"a": solved(150), "b": solved(0)}
    verdict = judge(race, {"a": solved(60), "b": solved(190)}, nobody, base)
    assert verdict.drop
    assert verdict.p_infeasible > 0.99
    assert verdict.p_dominated < 0.01
    assert not judge(race, {"a": solved(148), "b": solved(190)}, nobody, base).drop


def test_a_constraint_on_an_evaluator_that_is_no_objective() -> None:
    race = replace(ONE, constraints=(parse("min_language(b) >= 0.5"),), layouts=RACE.layouts)
    candidate = {"a": solved(190), "b": solved(20)}
    assert judge(race, candidate, {"a": solved(50), "b": solved(50)}).p_infeasible > 0.99


def test_too_few_groups_decide_nothing() -> None:
    few = Layout(tuple(f"g{i % 5}" for i in range(ITEMS)), LAYOUT.languages)
    race = replace(ONE, layouts={"a": few})
    verdict = judge(race, {"a": solved(10)}, {"a": solved(190)})
    assert verdict.p_dominated > 0.99
    assert not verdict.drop


def test_aggregates_over_languages_are_raced_as_such() -> None:
    lowest = Quantity(Aggregate("min_language", "a"))
    race = replace(ONE, objectives=(lowest,))
    one_language = (np.arange(ITEMS) % 2 == 0).astype(float)[None]
    half = (np.arange(ITEMS) % 4 < 2).astype(float)[None]
    assert judge(race, {"a": one_language}, {"a": half}).drop
    assert not judge(race, {"a": half}, {"a": one_language}).drop


def test_stages_name_each_item_once() -> None:
    race = replace(RACE, stages=(0.1, 0.33, 1.0))
    assert race.ranges(0) == (("a", 0, 20), ("b", 0, 20))
    assert race.ranges(1) == (("a", 20, 66), ("b", 20, 66))
    assert race.ranges(2) == (("a", 66, 200), ("b", 66, 200))
    assert [race.stage_of({"a": n, "b": n}) for n in (0, 20, 66, 200)] == [0, 1, 2, 3]


def test_the_current_front_is_of_measured_values() -> None:
    values = {"a": solved(10, 150, 100, 100), "b": solved(190, 20, 10, 100)}
    assert current_front(RACE, values).tolist() == [0, 1, 3]


def test_a_decision_takes_milliseconds() -> None:
    count = 2000
    layout = Layout(tuple(f"g{i // 3}" for i in range(count)), tuple("abcdef"[i % 6] for i in range(count)))
    race = replace(RACE, layouts={"a": layout, "b": layout})
    rng = np.random.default_rng(0)
    front = {name: (rng.random((50, count)) < 0.5).astype(np.float32) for name in ("a", "b")}
    candidate = {name: (rng.random((1, count)) < 0.5).astype(np.float32) for name in ("a", "b")}
    judge(race, candidate, front)
    times = []
    for _ in range(5):
        before = time.process_time()
        judge(race, candidate, front)
        times.append(time.process_time() - before)
    assert min(times) < 0.1


def test_few_good_candidates_are_dropped() -> None:
    # A candidate as good as the front's only point in truth: at 0.95 it should be dropped about once in twenty.
    dropped = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        hard = rng.random(ITEMS)
        own, rival = (((0.5 * hard + 0.5 * rng.random(ITEMS)) < 0.5).astype(float)[None] for _ in range(2))
        dropped += judge(ONE, {"a": own[:, :50]}, {"a": rival}).drop
    assert dropped / 300 < 0.08
