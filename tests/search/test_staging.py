from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluators._types import Item
from mergers._spec import Merge
from search.racing.race import Race
from search.racing.staging import Stages
from search.run.items import items_file, write_items
from search.scoring.objective import Grader, Job, Results
from search.statistics.aggregates import Aggregate
from search.statistics.uncertainty import Quantity, layouts_of

ITEMS = 200
MERGE = Job(Merge("linear", (("weight", (0.5, 0.5)),)), ("x", "y"), "search")
GRADERS = tuple(
    Grader(
        name,
        "exact_match",
        (),
        tuple(Item(f"{name}{i}", "p", "", "ef"[i % 2], f"g{i}", "", "search") for i in range(ITEMS)),
    )
    for name in ("a", "b")
)
RACE = Race(
    (0.25, 0.5, 1.0),
    0.95,
    tuple(Quantity(Aggregate("mean", name)) for name in ("a", "b")),
    ("max", "max"),
    (0.0, 0.0),
    (),
    layouts_of(GRADERS, "search"),
)


def full(rate_a: float, rate_b: float) -> Results:
    spread = (np.arange(ITEMS) * 0.618) % 1.0  # every prefix has about the rate
    return {"a": (spread < rate_a).astype(np.float32), "b": (spread < rate_b).astype(np.float32)}


def answer(results: Results, job: Job) -> Results:
    return {name: results[name][first:stop] for name, first, stop in job.ranges}


def stages(folder: Path, *front: tuple[float, float]) -> Stages:
    found = Stages(RACE, GRADERS, folder)
    for number, rates in enumerate(front):
        write_items(folder, f"front{number}", "search", full(*rates), GRADERS)
        found.enter(f"front{number}")
    return found


def test_a_good_candidate_comes_to_the_last_stage_by_a_final_and_every_item_is_scored_once(tmp_path: Path) -> None:
    race, results = stages(tmp_path, (0.9, 0.2)), full(0.3, 0.8)
    job, seen = race.first("1", MERGE), []
    while True:
        seen += [job.ranges]
        step = race.next("1", job, answer(results, job))
        if step.job is None:
            break
        job = step.job
    assert step.state == "PRUNED", "whether it is worth the rest is asked later"
    write_items(tmp_path, "1", "search", step.results, GRADERS)  # as whoever keeps the row does
    job = race.rest("1", MERGE)
    seen += [job.ranges]
    step = race.next("1", job, answer(results, job))
    assert (step.job, step.state) == (None, "COMPLETE")
    assert [ranges[0] for ranges in seen] == [("a", 0, 50), ("a", 50, 100), ("a", 100, 200)]
    for name in ("a", "b"):
        np.testing.assert_array_equal(step.results[name], results[name])


def test_a_bad_candidate_ends_after_its_first_stage_with_what_it_has(tmp_path: Path) -> None:
    race = stages(tmp_path, (0.9, 0.9))
    job = race.first("1", MERGE)
    step = race.next("1", job, answer(full(0.3, 0.3), job))
    assert (step.job, step.state) == (None, "PRUNED")
    assert {name: len(row) for name, row in step.results.items()} == {"a": 50, "b": 50}
    assert not items_file(tmp_path, "1", "search").exists(), "whoever keeps the row keeps the results"


def test_an_interrupted_candidate_goes_on_with_the_items_that_it_lacks(tmp_path: Path) -> None:
    results = full(0.3, 0.8)
    first = stages(tmp_path, (0.9, 0.2))
    job = first.first("1", MERGE)
    first.next("1", job, answer(results, job))
    second = stages(tmp_path, (0.9, 0.2))
    job = second.first("1", MERGE)
    assert job.ranges == (("a", 50, 100), ("b", 50, 100))
    step = second.next("1", job, answer(results, job))
    assert (step.job, step.state, len(step.results["a"])) == (None, "PRUNED", 100)
    # Killed after the last results, before the row that states them.
    write_items(tmp_path, "1", "search", results, GRADERS)
    job = stages(tmp_path).first("1", MERGE)
    assert job.ranges == (("a", 100, 200), ("b", 100, 200))
    assert stages(tmp_path).rest("1", MERGE).ranges == job.ranges, "a final's too"
    step = second.next("1", job, answer(results, job))
    assert step.state == "COMPLETE"
    np.testing.assert_array_equal(step.results["a"], results["a"])


def test_the_front_keeps_what_is_on_it_in_any_order(tmp_path: Path) -> None:
    points = ((0.9, 0.2), (0.3, 0.3), (0.5, 0.8), (0.2, 0.1))
    there, back = stages(tmp_path, *points), stages(tmp_path, *reversed(points))
    for race in (there, back):
        assert len(race.front["a"]) == 2
    assert sorted(there.front["a"].mean(axis=1)) == sorted(back.front["a"].mean(axis=1))
    there.enter("front0", feasible=False)
    assert len(there.front["a"]) == 2, "an infeasible point beats nobody"


def test_results_of_the_wrong_length_or_not_finite_are_refused(tmp_path: Path) -> None:
    race = stages(tmp_path)
    job = race.first("1", MERGE)
    results = dict(answer(full(0.5, 0.5), job))
    with pytest.raises(ValueError, match=r"a: \(49,\) results for 50 items"):
        race.next("1", job, results | {"a": results["a"][:-1]})
    with pytest.raises(ValueError, match="1 of 50 items have a non-finite result"):
        race.next("1", job, results | {"b": np.where(np.arange(50) == 3, np.nan, results["b"])})
