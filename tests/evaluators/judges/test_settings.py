from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evaluators._errors import InputError
from evaluators.judges.batch import request
from evaluators.judges.settings import Judge, judge_of

PLAIN = {"endpoint": "http://127.0.0.1:8000/v1", "model": "m"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"modle": "m"}, "a judge has no key 'modle'; did you mean 'model'?"),
        ({"zzz": 1}, "a judge has no key 'zzz'; its keys: endpoint, model"),
        ({"endpoint": "127.0.0.1:8000"}, "endpoint: must be a URL such as http"),
        ({"endpoint": "ftp://x/v1"}, "endpoint: must be a URL such as http"),
        ({"endpoint": "http://me:pass@x/v1"}, "endpoint: must hold no user, password, query or fragment"),
        ({"endpoint": "http://x/v1?key=pass"}, "endpoint: must hold no user"),
        ({"model": ""}, "model: must be text, got ''"),
        ({"key": "sk-pass"}, "key: must be the name of an environment variable"),
        ({"temperature": -1}, "temperature: must be a number from 0, got -1"),
        ({"temperature": float("nan")}, "temperature: must be a number from 0, got nan"),
        ({"votes": 0}, "votes: must be a whole number from 1 to 99, got 0"),
        ({"votes": True}, "votes: must be a whole number"),
        ({"votes": 3}, "votes: 3 votes at temperature 0 are one vote asked 3 times; set a temperature"),
        ({"timeout": 0}, "timeout: must be a number above 0, got 0"),
        ({"timeout": 90, "patience": 30}, "patience: 30 s for all tries is less than timeout, 90 s for one"),
        ({"prices": {"input": 1}}, "prices: must be {input: ..., output: ...}"),
        ({"prices": {"input": 1, "output": "2"}}, "prices.output: must be a number from 0, got '2'"),
        ({"limit": 5}, "limit: money is counted by prices; state them too"),
        ({"structured": "json"}, "structured: must be one of auto, schema, none, got 'json'"),
        ({"system": "no"}, "system: must be true or false, got 'no'"),
        ({"extra": {"model": "x"}}, "extra: model is set by mergefront; remove it"),
        ({"extra": {"x": {1, 2}}}, "extra: must hold JSON values only"),
        ({"concurrency": 0}, "concurrency: must be a whole number from 1 to 1024"),
    ],
)
def test_bad_judges(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        judge_of(PLAIN | given)
    assert says in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")
    assert "\n" not in str(caught.value)


def test_missing_keys() -> None:
    with pytest.raises(InputError, match="a judge needs the key 'model'"):
        judge_of({"endpoint": "http://x/v1"})
    with pytest.raises(InputError, match="a judge is a mapping with endpoint and model, got str"):
        judge_of("strict")  # type: ignore[arg-type]  # what a recipe may hold


def test_the_digest_is_of_what_may_change_a_verdict() -> None:
    plain = judge_of(PLAIN)
    assert judge_of(PLAIN | {"endpoint": "http://127.0.0.1:8000/v1/"}).digest() == plain.digest()
    same: dict[str, Any] = {
        "key": "A",
        "votes": 5,
        "timeout": 1.0,
        "patience": 2.0,
        "limit": 3.0,
        "concurrency": 1,
        "cache": "x",
    }
    assert replace(plain, **same).digest() == plain.digest()
    others: list[dict[str, Any]] = [{"model": "n"}, {"temperature": 1.0}, {"max_tokens": 9}, {"seed": 1}]
    for changed in (*others, {"extra": {"a": 1}}, {"system": False}):
        assert replace(plain, **changed).digest() != plain.digest()
    here, there = (replace(plain, endpoint=f"http://host{n}/v1", identity="our judge") for n in (1, 2))
    assert here.digest() == there.digest() != plain.digest()


def test_the_request_is_what_the_official_client_would_send() -> None:
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from pydantic import TypeAdapter

    from evaluators.judge_harm import FORM

    judge = judge_of(PLAIN | {"temperature": 0.5, "seed": 3, "extra": {"reasoning_effort": "low"}})
    body = request(judge, (("system", "s"), ("user", "u")), 2) | {"response_format": FORM.response_format()}
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body, strict=True)
    assert body["seed"] == 5
    assert body["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    bare = request(Judge("http://x/v1", "m", temperature=None, max_tokens=None), (("user", "u"),), 0)
    assert sorted(bare) == ["messages", "model"]
    joined = request(judge_of(PLAIN | {"system": False}), (("system", "s"), ("user", "u")), 0)
    assert joined["messages"] == [{"role": "user", "content": "s\n\nu"}]


def test_cost() -> None:
    assert judge_of(PLAIN).cost(10**6, 10**6) == 0.0
    assert judge_of(PLAIN | {"prices": {"input": 2.5, "output": 10}}).cost(10**6, 10**5) == 3.5
