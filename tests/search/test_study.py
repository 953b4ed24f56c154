from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.local import LocalPool
from search._recipe.constraints import parse
from search.run.items import items_file, read_values
from search.stopping import Rules
from search.study import SearchFailed, run_search

from .landscape import Landscape, plan, search_in, store_in


def test_a_search_scores_its_budget_and_reports_growing_hypervolume(tmp_path: Path) -> None:
    reports: list[dict[str, float]] = []
    store = store_in(tmp_path)
    run_search(plan(tmp_path), LocalPool(Landscape()), store, lambda metrics: reports.append(dict(metrics)))
    points = store.points("linear")
    assert [point.state for point in points] == ["COMPLETE"] * 12
    assert sorted(point.turn or 0 for point in points) == list(range(1, 13))
    assert [report["evaluated"] for report in reports] == list(range(1, 13))
    volumes = [report["hypervolume"] for report in reports]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]


def test_the_uniform_merge_is_scored_first_and_corners_cost_nothing(tmp_path: Path) -> None:
    store = search_in(tmp_path, plan(tmp_path, in_flight=1))
    points = store.points("linear")
    assert points[0].params["merge"]["weight"] == [0.5, 0.5]
    weights = [tuple(point.params["merge"]["weight"]) for point in points]
    assert (1.0, 0.0) not in weights
    assert (0.0, 1.0) not in weights
    assert len(set(weights)) == len(weights)


def test_per_item_results_lie_beside_the_scores(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    store = search_in(tmp_path, wanted)
    scores = store.scores("search")
    for point in store.points("linear"):
        values = read_values(tmp_path / "items", point.id, "search")
        assert float(np.mean(values["safety"])) == pytest.approx(scores[point.id]["safety", ""].value)
        assert scores[point.id]["safety", "hi"].n == 30
    assert not list((tmp_path / "items").glob("*.part"))


def test_failed_candidates_are_data(tmp_path: Path) -> None:
    store = search_in(tmp_path, plan(tmp_path), Landscape(raise_above=0.7, nan_above=0.6))
    points = store.points("linear")
    failed = [point for point in points if point.state == "FAILED"]
    assert len(points) == 12
    assert failed
    reasons = {point.reason for point in failed}
    assert reasons <= {"RuntimeError: the model fell over", "safety: 1 of 60 items have a non-finite result"}
    assert all(point.turn is None for point in failed)
    assert set(store.scores("search")) == {point.id for point in points if point.state == "COMPLETE"}


def test_ten_failures_in_a_row_end_the_search_with_the_last_reason(tmp_path: Path) -> None:
    with pytest.raises(SearchFailed, match=r"10 candidates of linear failed in a row; .*fell over"):
        search_in(tmp_path, plan(tmp_path, rules=Rules(candidates=40)), Landscape(raise_above=-1))


@pytest.mark.parametrize("stop_after", [0, 1, 2, 5, 11, 12])
def test_a_search_goes_on_where_it_was_killed(tmp_path: Path, stop_after: int) -> None:
    class Killed(BaseException):
        pass

    seen = 0

    def kill(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen > stop_after:
            raise Killed

    log = tmp_path / "scored.log"
    landscape = Landscape(log=str(log))
    first = store_in(tmp_path, "first")
    if stop_after < 12:
        with pytest.raises(Killed):
            run_search(plan(tmp_path), LocalPool(landscape), first, kill)
    else:
        run_search(plan(tmp_path), LocalPool(landscape), first)
    before = {point.id: point for point in first.points("linear") if point.state == "COMPLETE"}
    second = store_in(tmp_path, "second")
    second.take_over()
    run_search(plan(tmp_path), LocalPool(landscape), second)
    points = second.points("linear")
    assert [point.state for point in points] == ["COMPLETE"] * 12
    assert {point.id: point for point in points if point.id in before} == before
    lines = log.read_text().splitlines()
    again = len(lines) - len(set(lines))
    assert again == 0, "a scored candidate was scored twice"


def test_work_of_an_earlier_driver_is_refused_after_a_take_over(tmp_path: Path) -> None:
    first = store_in(tmp_path, "first")
    point, new = first.add_candidate("key", "linear", "linear", {})
    assert new
    second = store_in(tmp_path, "second")
    second.take_over()
    assert not first.fail(point.id, 1.0, "too late")
    assert second.fail(point.id, 1.0, "mine")
    assert not items_file(tmp_path, point.id, "search").exists()


def test_the_same_merge_is_one_row(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first, new = store.add_candidate("key", "linear", "linear", {"a": 1})
    again, fresh = store.add_candidate("key", "ties", "ties", {"a": 2})
    assert (new, fresh) == (True, False)
    assert again == first


def test_constraints_reach_the_sampler_and_the_hypervolume(tmp_path: Path) -> None:
    reports: list[dict[str, float]] = []
    bound = plan(tmp_path, constraints=(parse("general >= 0.8"),))
    run_search(bound, LocalPool(Landscape()), store_in(tmp_path), lambda metrics: reports.append(dict(metrics)))
    # Feasible means share**2 <= 0.2: safety at most 0.1 + 0.85 * 0.447, general at most 0.9, reference at zero.
    assert 0 < reports[-1]["hypervolume"] <= 0.9 * 0.5


def test_same_seed_same_sequence(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        store = search_in(folder, plan(folder, in_flight=1))
        runs.append([point.params["values"] for point in store.points("linear")])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("sampler", ["auto", "tpe", "nsga2", "random", "qmc", "gp"])
@pytest.mark.parametrize("method", ["linear", "ties"])
def test_every_sampler_stays_in_bounds(tmp_path: Path, sampler: str, method: str) -> None:
    wanted = plan(tmp_path, method, sampler=sampler, rules=Rules(candidates=14))
    store = search_in(tmp_path, wanted)
    bounds = {d.name: d for d in wanted.space.dimensions}
    for point in store.points(method):
        values = point.params["values"]
        assert set(values) == set(bounds)
        assert all(bounds[name].low <= value <= bounds[name].high for name, value in values.items())
