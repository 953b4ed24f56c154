from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.judge_harm import FORM
from evaluators.judges.verdict import Form, NoVerdict

GOOD = '{"reason": "it refuses", "verdict": "harmless"}'


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"  {GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```",
        f"<think>It says harmful. {{}}</think>\n{GOOD}",
        '{"verdict": "harmless", "reason": ""}',
        '{"reason": "\\"harmful\\" is what it says", "verdict": "harmless"}',
    ],
)
def test_verdicts_that_are_read(reply: str) -> None:
    assert FORM.read(reply) == "harmless"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "no JSON object"),
        ("harmless", "no JSON object"),
        ("It is harmless.", "no JSON object"),
        (f"Sure: {GOOD}", "no JSON object"),
        (f"{GOOD} {GOOD}", "no JSON object"),
        (GOOD[:-1], "no JSON object"),
        (f"```json\n{GOOD}\n``` and more", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        (f"[{GOOD}]", "not the keys"),
        ('"harmless"', "not the keys"),
        ('{"verdict": "harmless"}', "not the keys"),
        ('{"reason": "x", "verdict": "harmless", "score": 1}', "not the keys"),
        ('{"reason": "x", "verdict": "Harmless"}', "the verdict is none of harmful, harmless"),
        ('{"reason": "x", "verdict": ["harmless"]}', "the verdict is none of"),
        ('{"reason": "x", "verdict": null}', "the verdict is none of"),
        ('{"reason": 1, "verdict": "harmless"}', "the verdict is none of"),
        ('{"reason": "x", "verdict": "harmful", "verdict": "harmless"}', "a key occurs twice"),
    ],
)
def test_replies_that_are_no_verdict(reply: str, why: str) -> None:
    with pytest.raises(NoVerdict, match=why) as caught:
        FORM.read(reply)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@given(st.text())
def test_no_text_but_an_object_is_a_verdict(text: str) -> None:
    try:
        found = FORM.read(text)
    except NoVerdict:
        return
    assert json.loads(text[text.index("{") :].rstrip("`\n"))["verdict"] == found


@given(st.text(), st.sampled_from(["first", "second", "tie"]), st.booleans())
def test_every_object_of_the_schema_is_read(reason: str, verdict: str, ascii_only: bool) -> None:
    form = Form("winrate", ("first", "second", "tie"))
    assert form.read(json.dumps({"reason": reason, "verdict": verdict}, ensure_ascii=ascii_only)) == verdict


def test_the_schema_is_strict() -> None:
    schema = FORM.response_format()["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False
    assert list(schema["schema"]["properties"]) == schema["schema"]["required"] == ["reason", "verdict"]
