"""`mergefront.search` in stages: every point on the first items, and on all of them those that finals choose."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import mergefront
from mergefront import Study, StudyPoint, UserError
from search._study.caller import CallerPool
from search.commands.optuna_storage import export
from search.statistics.front import hypervolume

FIRST, EVERY = 80, 400
BUDGET = {"candidates": 40, "stages": [FIRST, EVERY]}
SPACE = dict.fromkeys(("share", "b", "c"), (0.0, 1.0))
Calls = list[tuple[str, range]]


def rates(params: Mapping[str, Any]) -> dict[str, float]:
    """True values: a front along `share`, and a cost for leaving the middle of the rest."""
    share, cost = params["share"], (params["b"] - 0.5) ** 2 + (params["c"] - 0.5) ** 2
    return {
        "general": max(0.9 - 0.6 * share**2 - cost, 0.02),
        "safety": max(0.2 + 0.7 * share - cost, 0.02),
    }


def solved(calls: Calls | None = None) -> Callable[..., dict[str, Any]]:
    """A score that is a mean over items which, for each point, are solved or not once and for all."""

    def score(params: Mapping[str, Any], items: range | None = None) -> dict[str, Any]:
        which = range(EVERY) if items is None else items
        if calls is not None:
            calls.append((repr(sorted(params.items())), which))
        luck = np.random.default_rng(int(params["share"] * 2**40)).random((2, EVERY))[:, which.start : which.stop]
        means = {
            name: float((row < rate).mean()) for (name, rate), row in zip(rates(params).items(), luck, strict=True)
        }
        return {name: (mean, math.sqrt((mean * (1 - mean) + 0.1) / len(which))) for name, mean in means.items()}

    return score


def search(score: Any = None, **changes: Any) -> Study:
    settings: dict[str, Any] = {
        "objectives": {"general": "max", "safety": "max"},
        "budget": BUDGET,
        "sampler": "random",
    }
    return mergefront.search(score or solved(), SPACE, **(settings | changes))


def content(study: Study) -> list[tuple[Any, ...]]:
    return [(dict(p.params), dict(p.values), p.state, p.items) for p in study.points]


def true_volume(study: Study) -> float:
    values = np.array([list(rates(point.params).values()) for point in study.front])
    return hypervolume(values, ("max", "max"), (0.0, 0.0))


def test_finals_are_scored_on_all_items_and_the_rest_once_on_the_first() -> None:
    calls: Calls = []
    study = search(solved(calls))
    states = Counter(point.state for point in study.points)
    assert len(study.points) == 40
    assert states["PRUNED"] > states["COMPLETE"] > 0
    assert {(point.state, point.items) for point in study.points} == {("PRUNED", FIRST), ("COMPLETE", EVERY)}
    assert len(calls) == len(set(calls)), "a call was made twice"
    assert Counter(items for _, items in calls) == {range(FIRST): 40, range(EVERY): states["COMPLETE"]}
    assert study.front
    assert all(point.state == "COMPLETE" for point in study.front)
    assert f"{states['PRUNED']} scored on a part of the items, 0 failed; ended by: 40 candidates" in str(study)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_front_is_that_of_a_search_without_stages_for_less_than_half_the_items(seed: int) -> None:
    calls: Calls = []
    whole, staged = search(seed=seed, budget=80), search(solved(calls), seed=seed, budget={**BUDGET, "candidates": 80})
    assert [p.params for p in staged.points] == [p.params for p in whole.points]
    assert sum(len(items) for _, items in calls) < 0.45 * 80 * EVERY
    assert true_volume(staged) >= 0.99 * true_volume(whole)


@cache
def uninterrupted(sampler: str) -> tuple[Calls, Study]:
    calls: Calls = []
    return calls, search(solved(calls), sampler=sampler)


@pytest.mark.parametrize(("sampler", "after"), [*(("random", after) for after in (0, 5, 9, 25, 41, 44)), ("auto", 41)])
def test_a_call_that_is_interrupted_anywhere_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, after: int
) -> None:
    whole, expected = uninterrupted(sampler)
    assert len(whole) > 44
    calls: Calls = []
    collect = CallerPool.collect

    def interrupted(self: CallerPool, timeout_s: float) -> Any:
        if len(calls) == after:
            raise KeyboardInterrupt
        return collect(self, timeout_s)

    with monkeypatch.context() as context:
        context.setattr(CallerPool, "collect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(solved(calls), sampler=sampler, storage=tmp_path / "s.db")
    found = search(solved(calls), sampler=sampler, storage=tmp_path / "s.db")
    assert content(found) == content(expected)
    assert calls == whole


def test_more_candidates_are_a_longer_search(tmp_path: Path) -> None:
    first = search(storage=tmp_path / "s.db")
    longer = search(storage=tmp_path / "s.db", budget={**BUDGET, "candidates": 50})
    assert len(longer.points) == 50
    held = {point.id for point in first.points if point.state == "COMPLETE"}
    assert held <= {point.id for point in longer.points if point.state == "COMPLETE"}


def test_what_fails_in_its_final_has_failed() -> None:
    score = solved()

    def broken(params: Mapping[str, Any], items: range | None = None) -> dict[str, Any]:
        if items is not None and len(items) == EVERY and params["share"] > 0.5:
            raise RuntimeError("out of memory")
        return score(params, items)

    study = search(broken)
    failed = [point for point in study.points if point.state == "FAILED"]
    assert failed
    assert {point.reason for point in failed} == {"RuntimeError: out of memory"}
    assert all(point.params["share"] > 0.5 for point in failed)
    assert all(point.params["share"] <= 0.5 for point in study.front)


def test_a_final_of_failures_alone_chooses_nobody() -> None:
    def broken(params: Mapping[str, Any], items: range | None = None) -> dict[str, Any]:
        raise RuntimeError("no model")

    with pytest.warns(UserWarning, match="10 candidates of study failed in a row; the last: RuntimeError: no model"):
        study = search(broken)
    assert len(study.points) == 10


def test_a_part_without_standard_errors_counts_as_exact_and_is_said() -> None:
    with pytest.warns(UserWarning, match="^scores of a part of the items came without standard errors, and counted"):
        study = search(lambda params, items=None: rates(params))
    assert study.front
    assert Counter(point.state for point in study.points)["PRUNED"] > 0


def test_models_that_answer_nothing_are_no_failures() -> None:
    """All items wrong: every value and every standard error is 0."""
    score = solved()

    def mute(params: Mapping[str, Any], items: range | None = None) -> dict[str, Any]:
        broken = params["b"] > 0.2
        return dict.fromkeys(rates(params), (0.0, 0.0)) if broken else score(params, items)

    study = search(mute)
    assert not [point for point in study.points if point.state == "FAILED"]
    assert all(point.params["b"] <= 0.2 for point in study.front)


def test_an_exact_objective_beside_a_noisy_one_is_no_trouble() -> None:
    score = solved()

    def priced(params: Mapping[str, Any], items: range | None = None) -> dict[str, Any]:
        return {**score(params, items), "cost": params["b"]}

    study = search(priced, objectives={"general": "max", "cost": "min"})
    assert study.front
    assert all(point.stderr["cost"] == 0 for point in study.points)


def test_a_search_that_ends_before_its_finals_says_that_its_front_is_empty() -> None:
    line = r"^no point was scored on all items, the front is empty; ended by: .* of evaluation, the limit is 1e-09 s$"
    with pytest.warns(UserWarning, match=line):
        study = search(budget={"cost": 1e-9, "stages": [FIRST, EVERY]})
    assert [point.state for point in study.points] == ["PRUNED"]
    assert study.front == ()
    assert study.hypervolume() == (0.0, 0.0, 0.0)


def test_constraints_that_nothing_meets_name_the_least_infeasible() -> None:
    with pytest.warns(UserWarning, match=r"the least infeasible, #\d+, misses general >= 1\.5 by"):
        study = search(constraints=["general >= 1.5"])
    least = study.least_infeasible
    assert isinstance(least, StudyPoint)
    assert least.values["general"] == max(point.values["general"] for point in study.points)


@pytest.mark.parametrize(
    ("score", "line"),
    [
        (lambda params: rates(params), "score: must take items, as there are stages; write def score(params, items"),
        (7, "score: must be a function, got 7; write def score(params, items=None)"),
    ],
)
def test_a_score_that_cannot_be_called_on_items_is_refused(tmp_path: Path, score: Any, line: str) -> None:
    with pytest.raises(UserError) as found:
        search(score, storage=tmp_path / "s.db")
    assert line in str(found.value)
    assert not (tmp_path / "s.db").exists()


@pytest.mark.parametrize("stages", [100, [100], [0, 100], [100, 100], [0.2, 1.0], [10, 20, 30], [True, 5], "ab"])
def test_what_are_no_stages(stages: Any) -> None:
    with pytest.raises(UserError) as found:
        search(budget={"candidates": 3, "stages": stages})
    rule = "budget.stages: must be two whole numbers above 0 that rise, got "
    assert str(found.value).startswith(rule)
    assert str(found.value).endswith('write "stages": [100, 500]: the first 100 of 500 items, then all')


@pytest.mark.parametrize("other", [{"candidates": 3}, {"candidates": 3, "stages": [FIRST, 500]}])
def test_other_stages_are_another_question(tmp_path: Path, other: dict[str, Any]) -> None:
    search(budget={**BUDGET, "candidates": 3}, storage=tmp_path / "s.db")
    with pytest.raises(UserError, match="holds another study; these differ: stages; put them back"):
        search(budget=other, storage=tmp_path / "s.db")


@pytest.mark.parametrize("sampler", ["auto", "tpe"])
def test_choices_logs_and_fixed_parameters_come_to_finals(sampler: str) -> None:
    score, better = solved(), {"plain": 0.0, "odd": 0.2}

    def mixed(params: Mapping[str, Any], items: range | None = None) -> dict[str, Any]:
        share = math.log(params["rate"]) / math.log(100)
        return score({"share": share, "b": 0.5 + better[params["kind"]], "c": params["c"]}, items)

    space = {"rate": (1.0, 100.0, "log"), "kind": list(better), "c": (0.5, 0.5)}
    study = mergefront.search(
        mixed, space, objectives={"general": "max", "safety": "max"}, budget=BUDGET, sampler=sampler
    )
    assert {point.state for point in study.points} == {"PRUNED", "COMPLETE"}
    assert {point.params["kind"] for point in study.front} == {"plain"}


def test_optuna_sees_what_was_scored_in_part(tmp_path: Path) -> None:
    study = search(storage=tmp_path / "s.db")
    url, (name,) = export(tmp_path / "s.db")
    trials = optuna.load_study(study_name=name, storage=url).trials
    assert [trial.state.name for trial in trials] == [point.state for point in study.points]
