"""What the report says in words follows from the data."""

from typing import Any

from search._report.rows import clean, rows_of
from search._report.verdict import compare, paired_of
from search._report.view import view_of

from .test_report import DIRECTIONS, synthetic


def pair(left: float, right: float, stderr: float = 0.01) -> tuple[Any, Any]:
    """Two rows equal on `safety`, with the given values of `general`."""

    def scores(value: float) -> dict[str, Any]:
        score = {"stderr": stderr, "n": 100, "split": "report"}
        return {"general": {"value": value, **score}, "safety": {"value": 0.5, **score}}

    points = [
        {"id": "a", "kind": "merge", "scores": scores(left)},
        {"id": "b", "kind": "baseline", "scores": scores(right)},
    ]
    return rows_of({"points": points})[0], rows_of({"points": points})[1]


def test_dominance_is_called_outside_two_standard_errors_only() -> None:
    objectives = {"general": "max", "safety": "max"}
    # The error of the difference is 0.01 * sqrt(2), twice it 0.0283.
    assert compare(*pair(0.529, 0.5), objectives, {}) == "dominates"
    assert compare(*pair(0.528, 0.5), objectives, {}) == "ahead"
    assert compare(*pair(0.471, 0.5), objectives, {}) == "dominated"
    assert compare(*pair(0.5, 0.5), objectives, {}) == "mixed"
    assert compare(*pair(0.471, 0.5), {"general": "min", "safety": "max"}, {}) == "dominates"
    known = paired_of(
        clean({"paired": [{"a": "b", "b": "a", "scores": {"general": {"value": -0.01, "stderr": 0.004}}}]})
    )
    assert compare(*pair(0.51, 0.5), objectives, known) == "dominates"
    assert compare(*pair(0.51, 0.5), objectives, {}) == "ahead"


def test_scores_of_different_splits_are_never_compared() -> None:
    a, b = pair(0.9, 0.1)
    for score in a["scores"].values():
        score["split"] = "search"
    assert compare(a, b, {"general": "max", "safety": "max"}, {}) is None


def test_headline_follows_the_data() -> None:
    front, history = synthetic(merges=5)
    best = next(p for p in front["points"] if p["id"] == "0")
    mix = next(p for p in front["points"] if p["id"] == "mix15")
    for point in front["points"]:
        point["on_front"] = point is best
    best["feasible"] = True
    best["scores"] = {
        name: {**score, "value": score["value"] + (0.2 if DIRECTIONS[name] == "max" else -0.2)}
        for name, score in mix["scores"].items()
    }
    view = view_of(clean(front), clean(history))
    assert "Of the 1 merge on the front, 1 (#0) dominates the baseline mix15" in view["headline"][1]
    best["scores"] = mix["scores"]
    view = view_of(clean(front), clean(history))
    assert "Of the 1 merge on the front, none dominates the baseline mix15" in view["headline"][1]
    front["points"].remove(mix)
    assert "does not show whether merging beats mixing" in view_of(clean(front), {})["headline"][1]


def test_hypervolume_of_each_search_is_that_of_its_feasible_merges_on_the_search_split() -> None:
    def made(identity: str, kind: str, x: float, y: float) -> dict[str, Any]:
        scores = {n: {"value": v, "stderr": 0.1, "n": 9, "split": "search"} for n, v in (("x", x), ("y", y))}
        return {"id": identity, "kind": kind, "scores": scores}

    points = [made("e", "expert", 9, 9), made("0", "merge", 3, 1), made("1", "merge", 1, 3), made("2", "merge", 2, 2)]
    points += [made("3", "merge", 5, 5) | {"feasible": False}, made("4", "merge", 1, 1)]
    report = {name: {**score, "value": 0.0, "split": "report"} for name, score in points[1]["scores"].items()}
    points[1] |= {"scores": report, "search_scores": points[1]["scores"]}
    front = {"run": "r", "objectives": {"x": "max", "y": "max"}, "reference": [0, 0], "points": points}
    methods = ("linear", "linear", "slerp", "slerp", "linear")
    curve = [{"id": str(i), "method": name, "seconds": i, "hypervolume": 81.0} for i, name in enumerate(methods)]
    view = view_of(clean(front), clean({"points": curve}))
    # 3 x 1 alone; 1 x 3 adds 2; slerp starts from nothing; the infeasible and the covered one add nothing.
    assert [point["own"] for point in view["curve"]] == [3.0, 5.0, 4.0, 4.0, 5.0]
    assert [point["joint"] for point in view["curve"]] == [81.0] * 5
