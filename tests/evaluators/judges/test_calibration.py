"""A judge of known quality against labels: its rates are found, and true shares come back out of stated ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators._errors import InputError
from evaluators._types import Score
from evaluators.judge_harm import JudgeHarm, judge_harm
from evaluators.judge_winrate import JudgeWinrate, judge_winrate
from evaluators.judges.calibration import Rate, calibrate, corrected

from .conftest import Serve
from .server import Action, Body, Say, by_word, sections, verdict

LANGUAGES = ("en", "hi", "ar")


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def labelled(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"i{n}",
            "prompt": f"p{n}",
            "response": f"{'steps' if n % 2 else 'no'} {n}",
            "language": LANGUAGES[n % 3],
            "label": "harmful" if n % 2 else "harmless",
        }
        for n in range(count)
    ]


def flawed(question: str, text: str) -> str:
    """Misses a fifth of harm in Hindi, and alarms at a tenth of what is harmless; gives item 7 no verdict."""
    draw = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 1000 / 1000
    if question == "p7":
        return ""
    hindi = int(question[1:]) % 3 == 1
    harmful = (draw >= 0.2 or not hindi) if "steps" in text else draw < 0.1
    return "harmful" if harmful else "harmless"


def flawed_judge(body: Body, _: int) -> Action:
    found = flawed(*sections(body))
    return Say(verdict(found) if found else "hm")


def test_rates_by_language(serve: Serve, tmp_path: Path) -> None:
    _, judge = serve(flawed_judge)
    evaluator = judge_harm(judge=judge)
    assert isinstance(evaluator, JudgeHarm)
    found = calibrate(evaluator, write(tmp_path / "labels.jsonl", labelled(300)), LANGUAGES)
    assert found.unjudged == ("i7",)
    assert found.votes is None
    assert [row.language for row in found.measured] == ["", *LANGUAGES]
    for row in found.measured:
        chosen = [item for item in labelled(300) if row.language in ("", item["language"]) and item["id"] != "i7"]
        right = {item["id"]: flawed(item["prompt"], item["response"]) == item["label"] for item in chosen}
        for rate_, label in ((row.accuracy, None), (row.sensitivity, "harmful"), (row.specificity, "harmless")):
            ids = [item["id"] for item in chosen if label in (None, item["label"])]
            assert rate_ is not None
            assert rate_.n == len(ids)
            assert rate_.value == pytest.approx(sum(right[key] for key in ids) / len(ids))
            assert 0 <= rate_.low <= rate_.value <= rate_.high <= 1
            assert rate_.high - rate_.low > 0.02  # also where all are right


def test_groups_widen_the_intervals(serve: Serve, tmp_path: Path) -> None:
    _, judge = serve(flawed_judge)
    evaluator = judge_harm(judge=judge)
    assert isinstance(evaluator, JudgeHarm)
    rows = [row | {"group": str(n // 50)} for n, row in enumerate(labelled(300)) if n != 7]
    file = write(tmp_path / "labels.jsonl", rows)
    grouped = calibrate(evaluator, file, LANGUAGES).measured[0].accuracy
    alone = (
        calibrate(evaluator, write(file, [row | {"group": row["id"]} for row in rows]), LANGUAGES).measured[0].accuracy
    )
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > alone.high - alone.low


def test_pairs_are_measured_in_both_orders(serve: Serve, tmp_path: Path) -> None:
    _, judge = serve(by_word)  # prefers the longer
    evaluator = judge_winrate(judge=judge)
    assert isinstance(evaluator, JudgeWinrate)
    rows = [
        {"id": str(n), "prompt": f"p{n}", "first": "a" * (n % 3 + 1), "second": "bb", "language": "en", "label": label}
        for n, label in enumerate(["second", "tie", "first"] * 10)
    ]
    found = calibrate(evaluator, write(tmp_path / "pairs.jsonl", rows), LANGUAGES)
    assert found.measured[0].accuracy.value == 1.0
    assert found.measured[0].sensitivity is None
    assert found.bias is not None
    assert (found.bias.pairs, found.bias.consistent, found.bias.first) == (30, 1.0, 0.5)
    _, lazy = serve(lambda body, number: Say(verdict("first")), identity="lazy")
    evaluator = judge_winrate(judge=lazy)
    assert isinstance(evaluator, JudgeWinrate)
    biased = calibrate(evaluator, tmp_path / "pairs.jsonl", LANGUAGES)
    assert biased.bias is not None
    assert (biased.bias.consistent, biased.bias.first) == (0.0, 1.0)
    assert biased.measured[0].accuracy.value == pytest.approx(1 / 3)
    assert biased.votes is not None
    assert biased.votes.alpha < 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": "bad"}, "item i0: label 'bad' is none of harmful, harmless"),
        ({"label": None}, "label '' is none of"),
        ({"response": " "}, "1 of 3 items have an empty response: i0"),
        ({"language": "de"}, "a language that the recipe does not list: 'de'"),
    ],
)
def test_files_that_are_not_labelled(serve: Serve, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    server, judge = serve(by_word)
    evaluator = judge_harm(judge=judge)
    assert isinstance(evaluator, JudgeHarm)
    rows = labelled(3)
    with pytest.raises(InputError) as caught:
        calibrate(evaluator, write(tmp_path / "x.jsonl", [rows[0] | change, *rows[1:]]), LANGUAGES)
    assert says in str(caught.value)
    with pytest.raises(InputError, match="no column 'label'"):
        calibrate(
            evaluator, write(tmp_path / "y.jsonl", [{"prompt": "p", "response": "r", "language": "en"}]), LANGUAGES
        )
    assert not server.bodies


def rate(value: float, n: int) -> Rate:
    return Rate(value, 0.0, 1.0, n, float(n))


def test_rogan_gladen_gives_back_the_truth() -> None:
    hit, passed, truth = 0.8, 0.9, 0.3
    stated = hit * truth + (1 - passed) * (1 - truth)
    found = corrected(Score(stated, 0.01, 2000), rate(hit, 500), rate(passed, 500), 2000)
    assert found is not None
    assert found[0] == pytest.approx(truth)
    assert found[1] < truth < found[2]
    assert corrected(Score(0.3, 0.01, 100), rate(0.5, 100), rate(0.5, 100), 100) is None
    nothing = corrected(Score(0.0, 0.0, 100), rate(0.9, 100), rate(0.9, 100), 100)
    assert nothing is not None
    assert nothing[:2] == (0.0, 0.0)


@pytest.mark.parametrize(("truth", "hit", "passed"), [(0.05, 0.85, 0.95), (0.3, 0.8, 0.9), (0.5, 0.95, 0.7)])
def test_its_interval_covers(truth: float, hit: float, passed: float) -> None:
    rng = np.random.default_rng(5)
    inside, rounds = 0, 2000
    for _ in range(rounds):
        n, positive, negative = 400, 100, 150
        share = rng.binomial(n, hit * truth + (1 - passed) * (1 - truth)) / n
        seen = rate(rng.binomial(positive, hit) / positive, positive)
        let = rate(rng.binomial(negative, passed) / negative, negative)
        found = corrected(Score(share, float(np.sqrt(share * (1 - share) / n)), n), seen, let, n)
        inside += found is not None and found[1] <= truth <= found[2]
    assert 0.93 <= inside / rounds <= 0.985
