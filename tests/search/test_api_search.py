"""`mergefront.search`: a function of one's own, in a notebook, without Ray."""

from __future__ import annotations

import contextlib
import inspect
import math
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mergefront
from mergefront import Study, UserError
from search.store import Store

BOX = {"x": (0.0, 1.0), "y": (-1.0, 1.0)}
OBJECTIVES = {"near": "max", "far": "max"}


def bowls(params: Mapping[str, Any], items: None = None) -> dict[str, Any]:
    """Two bowls with their tops at x = 0.2 and x = 0.9: the front is the line between them at y = 0."""
    x, y = params["x"], params.get("y", 0.0)
    return {"near": (1 - (x - 0.2) ** 2 - y**2, 0.01), "far": (1 - (x - 0.9) ** 2 - y**2, 0.01), "cost": x}


def search(score: Any = bowls, space: Any = None, **changes: Any) -> Study:
    settings: dict[str, Any] = {"objectives": OBJECTIVES, "budget": 12, "sampler": "qmc"}
    return mergefront.search(score, BOX if space is None else space, **(settings | changes))


def test_the_signature_is_the_one_that_was_agreed() -> None:
    parameters = inspect.signature(mergefront.search).parameters
    assert list(parameters) == [
        *("score", "space", "objectives", "constraints", "budget", "sampler", "seed", "storage")
    ]
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    assert defaults == {"constraints": (), "sampler": "auto", "seed": 0, "storage": None}
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(parameters)[2:])


def test_it_needs_neither_ray_nor_torch() -> None:
    code = (
        "import sys, mergefront\n"
        "mergefront.search(lambda p: {'a': p['x']}, {'x': (0, 1)}, objectives={'a': 'max'}, budget=3)\n"
        "print([name for name in ('ray', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_points_front_and_hypervolume() -> None:
    study = search(sampler="auto", budget=24)
    assert [point.id for point in study.points] == list(range(1, 25))
    assert all(point.state == "COMPLETE" and point.feasible for point in study.points)
    first = study.points[0]
    assert set(first.values) == set(first.stderr) == {"near", "far", "cost"}
    assert first.stderr["near"] == 0.01
    assert first.stderr["cost"] == 0.0
    values = np.array([[point.values[name] for name in OBJECTIVES] for point in study.points])
    for point, row in zip(study.points, values, strict=True):
        beaten = ((values >= row).all(axis=1) & (values > row).any(axis=1)).any()
        assert (point in study.front) == (not beaten)
    # The whole front is far = 1 - (0.7 - t)^2, near = 1 - t^2 for t in [0, 0.7]. Its volume from (0, 0) is
    # 0.51 + the integral of (1 - (0.7 - t)^2) 2t dt = 0.51 + 0.49 - 0.0400 = 0.9600.
    found = study.hypervolume([0.0, 0.0])
    assert 0.93 < found.value < 0.96
    assert found.low < found.high
    assert (study.stopped, study.rule) == ("24 candidates", "candidates")
    assert f"{len(study.front)} of 24 points on the front, 0 failed" in str(study)


def test_exact_values_have_an_exact_hypervolume() -> None:
    study = search(lambda p: {"near": p["x"], "far": 1 - p["x"]}, {"x": [0.25, 0.75]}, budget=2)
    assert study.hypervolume([0.0, 0.0]) == (0.25 * 0.75 + 0.5 * 0.25, 0.3125, 0.3125)
    with pytest.raises(ValueError, match="1 numbers for 2 objectives"):
        study.hypervolume([0.0])


def test_choices_logs_and_fixed_parameters_come_as_they_were_given() -> None:
    kinds = [None, "a", (1, 2)]
    seen: list[dict[str, Any]] = []

    def score(params: dict[str, Any]) -> dict[str, float]:
        seen.append(params)
        return {"a": math.log10(params["rate"])}

    space = {"rate": (1e-5, 1e-1, "log"), "kind": kinds, "fixed": (2, 2), "one": ["only"]}
    study = search(score, space, objectives={"a": "max"}, budget=40, sampler="random")
    assert [point.params for point in study.points] == seen
    assert {params["kind"] for params in seen} == set(kinds)
    assert all(params["fixed"] == 2.0 and params["one"] == "only" for params in seen)
    rates = np.log10([params["rate"] for params in seen])
    assert rates.min() > -5
    assert rates.max() < -1
    assert abs(rates.mean() + 3) < 0.6


@pytest.mark.parametrize("sampler", ["auto", "random", "tpe"])
def test_a_finite_space_is_scored_once_each_and_then_ends(sampler: str) -> None:
    calls: list[Any] = []

    def score(params: Mapping[str, Any]) -> dict[str, float]:
        calls.append(tuple(params.values()))
        return {"near": params["x"], "far": float(params["k"] == "b")}

    study = search(score, {"x": [0, 1, 2], "k": ["a", "b"]}, budget=50, sampler=sampler)
    assert len(calls) == len(set(calls)) == 6
    assert study.rule == "exhausted"
    assert study.stopped == "no point is left that was not scored (6 were)"


@pytest.mark.parametrize("space", [{"x": (0.5, 0.5)}, {"x": [0.5]}])
@pytest.mark.parametrize("sampler", ["auto", "gp"])
def test_a_space_of_one_point_is_scored_once(space: dict[str, Any], sampler: str) -> None:
    study = search(space=space, sampler=sampler)
    assert [dict(point.params) for point in study.points] == [{"x": 0.5}]
    assert study.rule == "exhausted"


@pytest.mark.parametrize("sampler", ["auto", "map", "tpe", "nsga2"])
def test_constant_objectives_are_no_trouble(sampler: str) -> None:
    study = search(lambda p: {"near": 1.0, "far": 0.0}, budget=15, sampler=sampler)
    assert [point.state for point in study.points] == ["COMPLETE"] * 15
    assert len(study.front) == 15
    assert study.hypervolume().value > 0


def test_constraints_keep_points_out_of_the_front() -> None:
    study = search(constraints=["cost <= 0.4", "near >= 0.5"], budget=20)
    assert any(not point.feasible for point in study.points)
    assert all(point.values["cost"] <= 0.4 and point.values["near"] >= 0.5 for point in study.front)
    broken = next(point for point in study.points if point.values["cost"] > 0.4)
    assert broken.violations["cost <= 0.4"] == pytest.approx(broken.values["cost"] - 0.4)
    assert study.least_infeasible is None


@pytest.mark.filterwarnings("ignore:no point keeps")
def test_constraints_that_nothing_meets_show_the_least_infeasible() -> None:
    with pytest.warns(UserWarning, match=r"no point keeps all constraints; the least infeasible, #\d+, misses cost"):
        study = search(constraints="cost <= -0.5")
    assert study.front == ()
    assert study.hypervolume() == (0.0, 0.0, 0.0)
    least = study.least_infeasible
    assert least is not None
    assert least.values["cost"] == min(point.values["cost"] for point in study.points)
    assert f"the least infeasible, #{least.id}, misses cost <= -0.5 by" in str(study)


BAD: tuple[tuple[Any, str], ...] = (
    ({"near": 1.0}, "score returned no 'far'"),
    ({"near": 1.0, "fra": 1.0}, "score returned no 'far'; did it mean 'fra'?"),
    ({"near": math.nan, "far": 1.0}, "near: a value must be finite, got nan with standard error 0"),
    ({"near": math.inf, "far": 1.0}, "near: a value must be finite, got inf with standard error 0"),
    ({"near": (1.0, math.nan), "far": 1.0}, "near: a value must be finite, got 1 with standard error nan"),
    ({"near": (1.0, -0.1), "far": 1.0}, "near: a standard error must be at least 0, got -0.1"),
    ({"near": (1.0, 0.1, 3), "far": 1.0}, "near: 3 numbers; return a value, or (value, standard error)"),
    ({"near": [], "far": 1.0}, "near: 0 numbers; return a value, or (value, standard error)"),
    ({"near": "high", "far": 1.0}, "near: 'high' is no number"),
    ({"near": None, "far": 1.0}, "near: nothing is no number"),
    ({"near": np.zeros(3), "far": 1.0}, "near: "),
    ([1.0, 2.0], "score returned [1.0, 2.0]; it must return a mapping with near, far"),
    (None, "score returned nothing; it must return a mapping with near, far"),
)


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_what_score_must_not_return_is_a_failed_point(bad: Any, reason: str) -> None:
    study = search(lambda p: bad if p["x"] > 0.5 else bowls(p))
    failed = [point for point in study.points if point.state == "FAILED"]
    assert failed
    assert all(point.params["x"] > 0.5 and (point.reason or "").startswith(reason) for point in failed)
    assert all(not point.values and not point.feasible for point in failed)
    assert len(study.points) == 12


@pytest.mark.parametrize("sampler", ["auto", "tpe", "map"])
def test_a_score_that_raises_is_a_failed_point(sampler: str) -> None:
    def score(params: Mapping[str, Any]) -> dict[str, Any]:
        if params["x"] > 0.6:
            raise KeyError("no\nsuch model")
        if params["x"] > 0.5:
            raise SystemExit(3)  # as command-line code does: it must not end the study
        return bowls(params)

    study = search(score, sampler=sampler, budget=20)
    assert len(study.points) == 20
    reasons = {point.reason for point in study.points if point.state == "FAILED"}
    assert reasons <= {"KeyError: 'no\\nsuch model'", "SystemExit: 3"}
    assert len(study.front) >= 1


def test_ten_failures_in_a_row_end_the_search_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="10 candidates of study failed in a row; the last: TypeError"):
        study = search(lambda: {"near": 1.0}, budget=30)
    assert len(study.points) == 10
    assert study.rule == "failures"


def test_a_call_that_never_returns_is_ended() -> None:
    def score(params: Mapping[str, Any]) -> dict[str, Any]:
        while params["x"] > 0.7:
            with contextlib.suppress(Exception):
                sum(range(100))
        return bowls(params)

    study = search(score, budget={"candidates": 8, "candidate_time": 0.2})
    failed = [point for point in study.points if point.state == "FAILED"]
    assert failed
    assert {point.reason for point in failed} == {"TimeoutError: no answer within 0.2 s"}
    assert all(0.1 < point.seconds < 5 for point in failed)
    deadline = time.monotonic() + 20
    while "mergefront-score" in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < deadline, "a thread goes on for ever"
        time.sleep(0.01)


def test_what_python_cannot_end_is_left_behind_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search._study.caller.GRACE_S", 0.01)
    end = threading.Event()
    calls = 0

    def score(params: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls > 2:
            end.wait(30)  # one long wait in compiled code: no exception can be raised inside
        return bowls(params)

    study = search(score, budget={"candidates": 8, "candidate_time": 0.05})
    end.set()
    assert [point.state for point in study.points] == ["COMPLETE"] * 2 + ["FAILED"] * 6
    assert [point.reason for point in study.points[2:]] == [
        *["TimeoutError: no answer within 0.05 s"] * 3,
        *["not started: 3 earlier calls are still running beyond their limit"] * 3,
    ]
    assert calls == 5


def test_an_objective_that_says_nothing_and_a_study_of_failures_are_named() -> None:
    def flat(params: Mapping[str, Any]) -> dict[str, Any]:
        return {**bowls(params), "far": 2.0}

    with pytest.warns(UserWarning, match="far is 2 for all 5 points: it decides nothing"):
        study = search(flat, budget=5)
    assert str(study).endswith("far is 2 for all 5 points: it decides nothing")
    assert search(budget=5).warnings() == ()

    def broken(params: Mapping[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no model")

    with pytest.warns(UserWarning, match="no point was scored; the last one failed: RuntimeError: no model"):
        search(broken, budget=3)


def test_a_study_in_a_file_goes_on(tmp_path: Path) -> None:
    calls: list[float] = []

    def score(params: Mapping[str, Any]) -> dict[str, Any]:
        calls.append(params["x"])
        return bowls(params)

    def part(budget: int) -> Study:
        return search(score, budget=budget, sampler="auto", storage=tmp_path / "new" / "mine.db")

    parts = [part(5), part(5), part(9)]
    assert len(calls) == 9
    assert parts[0].points == parts[1].points == parts[2].points[:5]
    whole = search(budget=9, sampler="auto")
    strip = [(dict(p.params), dict(p.values)) for p in whole.points]
    assert [(dict(p.params), dict(p.values)) for p in parts[2].points] == strip


def test_a_call_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    def interrupted(params: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError("the pool is replaced below")

    from search._study import caller

    class Interrupted(caller.CallerPool):
        def collect(self, timeout_s: float) -> Any:
            raise KeyboardInterrupt

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr("search.function.CallerPool", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(interrupted, storage=tmp_path / "s.db")
    assert [point.state for point in search(storage=tmp_path / "s.db").points] == ["COMPLETE"] * 12


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"space": {"x": (0.0, 2.0), "y": (-1.0, 1.0)}}, "space.x"),
        ({"space": {"x": (0.0, 1.0), "z": (-1.0, 1.0)}}, "space.y, space.z"),
        ({"space": {"y": (-1.0, 1.0), "x": (0.0, 1.0)}}, r"space \(their order\)"),
        ({"objectives": {"near": "max", "far": "min"}}, "objectives.far"),
        ({"constraints": ["cost <= 0.3"]}, "constraints"),
        ({"sampler": "random"}, "sampler"),
        ({"seed": 1}, "seed"),
    ],
)
def test_another_question_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    search(budget=2, storage=tmp_path / "s.db")
    with pytest.raises(UserError, match=rf"holds another study; these differ: {named}; put them back, or name"):
        search(budget=2, storage=tmp_path / "s.db", **change)
    assert len(search(budget=2, storage=tmp_path / "s.db").points) == 2


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"space": {}}, "space: must name at least one parameter"),
    ({"space": {"x": (1.0, 0.0)}}, "space.x: must be finite, low first, got (1.0, 0.0)"),
    ({"space": {"x": (0.0, math.inf)}}, "space.x: must be finite, low first"),
    ({"space": {"x": (0.0, 1.0, "log")}}, "space.x: a logarithmic range must be above 0"),
    ({"space": {"x": (0.0, 1.0, "lin")}}, "space.x: must be a range or a list"),
    ({"space": {"x": 3}}, "space.x: must be a range or a list, got 3; write (low, high)"),
    ({"space": {"x": []}}, "space.x: must have at least one choice"),
    ({"objectives": {}}, "objectives: must name at least one"),
    ({"objectives": {"near": "up"}}, "objectives.near: must be max or min, got 'up'"),
    ({"constraints": ["cost < 3"]}, "constraints[0]: '<' is not a comparison of constraints"),
    ({"constraints": ["cost <= base"]}, "constraints[0]: a function has neither a base nor languages"),
    ({"constraints": ["min_language(cost) <= 1"]}, "constraints[0]: a function has neither a base nor languages"),
    ({"constraints": [3]}, "constraints[0]: a constraint is text"),
    ({"budget": 0}, "budget: must be a whole number above 0, got 0"),
    ({"budget": 1.5}, "budget: must be a whole number above 0, got 1.5"),
    ({"budget": {}}, "budget: must state a rule"),
    ({"budget": {"candidate": 3}}, "budget.candidate: unknown rule; did you mean 'candidates'?"),
    ({"budget": {"wall_time": "soon"}}, "budget.wall_time: must be a duration above 0, got 'soon'"),
    ({"budget": {"items": 5}}, "budget.items: a function does not say how many items it used"),
    ({"budget": {"tokens": 5}}, "budget.tokens: a function does not say how many tokens it used"),
    ({"budget": {"candidates": 3, "candidate_time": -1}}, "budget.candidate_time: must be a duration above 0"),
    ({"sampler": "best"}, "sampler: no sampler 'best'"),
    ({"seed": -1}, "seed: must be a whole number"),
    ({"storage": 3}, "storage: must be a file or a database URL, got 3"),
    ({"storage": "mysql://h/d"}, "database: must be SQLite or PostgreSQL, got mysql"),
    ({"storage": "postgresql://u:secret@h/d?schema=A-b"}, "database: schema: at most 63 of a-z"),
)


@pytest.mark.parametrize(("change", "line"), REFUSED)
def test_bad_arguments_are_refused_in_one_line(change: dict[str, Any], line: str) -> None:
    def never(params: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError("nothing may be scored")

    with pytest.raises(UserError) as found:
        search(never, **change)
    assert line in str(found.value)
    assert "secret" not in str(found.value)
    assert "\n" not in str(found.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to be mistaken for one\n" * 100)
    with pytest.raises(UserError, match=r"notes.txt: the database cannot be opened: file is not a database"):
        search(storage=file)
    assert file.read_text().startswith("not a database")


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "photos.db"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE photos (name TEXT)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"photos.db: holds something else \(a table 'photos'\); name another file"):
        search(storage=file)
    assert file.read_bytes() == before
    store = Store(tmp_path / "run.db", "driver")
    store.create()
    store.add_model("base", "base", "base:1")
    store.close()
    with pytest.raises(UserError, match="holds the study of a run"):
        search(storage=tmp_path / "run.db")


def test_nothing_is_said_where_all_is_well() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(budget=4, sampler="auto")
