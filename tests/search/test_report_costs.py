"""The report's conscience: what safety costs stands beside it, and many comparisons are counted."""

from __future__ import annotations

import re
from typing import Any

import pytest

from search._report.comparisons import comparisons_note
from search._report.rows import clean, rows_of
from search.report import report_html
from search.results.table import front_table

from .test_report import synthetic


def document(objectives: dict[str, str], look_alikes: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    front, history = synthetic(12)
    front["objectives"] = objectives
    front["look_alikes"] = look_alikes
    return front, history


def heads(page: str) -> list[str]:
    table = page[page.index('id="front-table"') :]
    return [
        re.sub(r"<[^>]*>", "", head) for head in re.findall(r"<th[^>]*>(.*?)</th>", table[: table.index("</thead>")])
    ]


def test_over_refusal_stands_beside_safety_also_where_it_is_no_objective() -> None:
    page = report_html(*document({"safety": "max", "general": "max"}, {"safety": "over_refusal"}))
    found = heads(page)
    place = next(index for index, head in enumerate(found) if head.startswith("safety"))
    assert found[place + 1].startswith("over_refusal (look-alikes")
    assert found[place + 2].startswith("general")
    # Where it is an objective it moves beside safety and keeps its direction.
    page = report_html(
        *document({"safety": "max", "general": "max", "over_refusal": "min"}, {"safety": "over_refusal"})
    )
    found = heads(page)
    assert sum(head.startswith("over_refusal") for head in found) == 1
    place = next(index for index, head in enumerate(found) if head.startswith("safety"))
    assert "min" in found[place + 1]
    # No partner, no column.
    assert not any(head.startswith("over_refusal") for head in heads(report_html(*document({"safety": "max"}, {}))))


def row(identity: str, kind: str, value: float, stderr: float) -> dict[str, Any]:
    score = {"value": value, "stderr": stderr, "n": 100, "split": "report"}
    return {"id": identity, "kind": kind, "scores": {"a": score}, "on_front": True, "feasible": True}


def test_comparisons_are_counted_and_corrected() -> None:
    points = [row("base", "base", 0.5, 0.01)]
    # One clear difference; one of 2.3 standard errors, which a table of four is expected to hold now and then.
    points += [row(str(i), "merge", 0.5 + gap, 0.01) for i, gap in enumerate((0.2, 0.033, 0.001, -0.002))]
    rows = rows_of(clean({"points": points}))
    note = str(comparisons_note(rows, {"a": "max"}, {}))
    assert "4 differences, 2 of them outside 2 standard errors" in note
    assert "about 0.2 would be outside by chance" in note
    assert "1 remain at 5%" in note
    assert comparisons_note(rows[:2], {"a": "max"}, {}) is None


@pytest.mark.parametrize("look_alikes", [{}, {"safety": "over_refusal"}])
def test_the_front_as_text_shows_it_too(look_alikes: dict[str, str]) -> None:
    score = {"value": 0.9, "stderr": 0.01, "n": 10, "split": "search"}
    point: dict[str, Any] = {
        "id": "base",
        "kind": "base",
        "method": None,
        "weights": {},
        "params": {},
        "state": "COMPLETE",
    }
    point |= {"scores": {"safety": score, "over_refusal": {**score, "value": 0.07}}, "p_on_front": 1.0}
    point |= {"on_front": True, "feasible": True}
    text = front_table(
        {"objectives": {"safety": "max"}, "points": [point], "picks": {}, "split": "search", "stopped": {}}
        | {
            "look_alikes": look_alikes,
            "hypervolume": 0.0,
            "hypervolume_interval": [0, 0],
            "optimism": {},
            "items": {"dropped": 0},
        }
        | {"level": 0.9, "hypervolume_optimism": 0.0, "constraints": []}
    )
    assert ("7.0 ± 1.0" in text) == bool(look_alikes)
    assert ("over_refusal (look-alikes)" in text) == bool(look_alikes)
