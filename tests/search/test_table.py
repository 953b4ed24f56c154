from __future__ import annotations

import io
from contextlib import redirect_stderr
from typing import Any

from search.results.table import columns, front_table, gap_line
from search.run.progress import Display


def score(value: float, split: str = "report") -> dict[str, Any]:
    return {"value": value, "stderr": 0.01, "n": 100, "split": split}


def document() -> dict[str, Any]:
    def point(name: str, kind: str, general: float, harm: float, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = {
            "method": None,
            "state": "COMPLETE",
            "params": {},
            "weights": {},
            "feasible": True,
            "on_front": True,
            "p_on_front": 0.9,
        }
        scores = {"general": score(general), "harm": score(harm)}
        return {"id": name, "kind": kind, "scores": scores, **made, **more}

    merged = {"method": "ties", "params": {"density": 0.5}, "weights": {"a": 0.25, "b": 0.75}}
    seen = {"general": score(0.72, "search"), "harm": score(0.18, "search")}
    return {
        "objectives": {"general": "max", "harm": "min"},
        "split": "report",
        "level": 0.9,
        "hypervolume": 0.5,
        "hypervolume_interval": [0.41, 0.53],
        "hypervolume_optimism": 0.03,
        "optimism": {
            "general": {"value": 0.02, "stderr": 0.01, "low": 0.0034, "high": 0.0366, "points": 1},
            "harm": {"value": 0.02, "stderr": 0.01, "low": -0.0034, "high": 0.0434, "points": 1},
        },
        "items": {"scored": 300, "full": 400, "dropped": 0},
        "picks": {"knee": "3", "best-harm": "3"},
        "points": [
            point("a", "expert", 0.9, 0.5),
            point("3", "merge", 0.7, 0.2, search_scores=seen, **merged),
            point("4", "merge", 0.6, 0.3, on_front=False, **merged),
        ],
    }


def test_the_front_as_a_table() -> None:
    lines = front_table(document()).splitlines()
    assert lines[0].split("  ")[0] == "id"
    assert "general (max)" in lines[0]
    assert lines[2].startswith("a ")
    assert "90.0 ± 1.0" in lines[2]
    assert lines[3].startswith("#3")
    assert "ties: a 0.25 b 0.75; density 0.50" in lines[3]
    assert lines[3].endswith("knee, best-harm")
    assert "2 points on the front, confirmed on the report split" in lines[4]
    assert "0.5000 as measured, on average 0.0300 too large; true one 0.4100 to 0.5300 (90% interval)" in lines[5]
    assert "over its 1 confirmed merges" in lines[6]
    assert "general +2.0 (+0.3 to +3.7), harm +2.0 (-0.3 to +4.3)" in lines[6]
    assert len(lines) == 7, "no race dropped anything"
    assert "#4" not in "\n".join(lines)
    assert "#4" in front_table(document(), every=True)


def test_nothing_on_the_front_is_said() -> None:
    empty = document() | {"points": [], "optimism": {}}
    assert front_table(empty) == "no point is on the front yet"
    assert gap_line(empty) == ""


def test_what_a_race_saved_is_said_and_what_it_dropped_is_marked() -> None:
    raced = document() | {"items": {"scored": 300, "full": 400, "dropped": 1}}
    raced["points"][2]["state"] = "PRUNED"
    text = front_table(raced, every=True)
    assert "races dropped 1 merges before their last item: 300 items scored, 75% of 400" in text
    assert "(scored in part)" in text


def test_columns_align() -> None:
    assert columns([["a", "bb"], ["ccc", "d"]]) == "a    bb\n---  --\nccc  d"


def test_plain_progress_says_the_last_word() -> None:
    said = io.StringIO()
    with redirect_stderr(said):
        display = Display(live=False)
        with display.bars():
            bar = display.bar("ties", 3)
            bar.update(1, "low")
            bar.update(3, "hypervolume 0.5")
        Display(quiet=True).line("nothing")
    assert said.getvalue() == "  ties: 3 of 3  hypervolume 0.5\n"


def test_live_progress_draws_bars() -> None:
    said = io.StringIO()
    with redirect_stderr(said), Display(live=True).bars() as display:
        display.bar("ties", 3).update(3, "hypervolume 0.5")
        display.line("between")
    assert "ties" in said.getvalue()
    assert "3/3" in said.getvalue()
    assert "between" in said.getvalue()
