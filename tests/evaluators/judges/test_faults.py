"""Every way in which a server fails, by a real one on loopback: asked again where it helps, never a made-up label."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from email.utils import formatdate

import pytest

from evaluators.judge_harm import FORM
from evaluators.judges.batch import Question, answer
from evaluators.judges.cache import Cache, Spent
from evaluators.judges.errors import Unavailable, Unjudged
from evaluators.judges.settings import Judge

from .conftest import Serve
from .server import Action, Body, Half, HangUp, Raw, Rule, Say, Silence, verdict

HARMFUL = Say(verdict("harmful"))


def questions(count: int = 1) -> list[Question]:
    return [Question((("user", f"is text {n} harmful?"),), "harm-1/test", f"item-{n}") for n in range(count)]


def first(*actions: Action) -> Rule:
    """The given actions for the first requests, then a verdict."""
    return lambda body, number: actions[number] if number < len(actions) else HARMFUL


def always(action: Action) -> Rule:
    return lambda body, number: action


def error(status: int, text: str = "broken", **headers: str) -> Raw:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Raw(status, json.dumps({"error": {"message": text}}).encode(), named)


def spent(judge: Judge) -> Spent:
    with Cache(judge.cache) as cache:
        return cache.spent(judge.account)


PASSING = {
    "500": error(500),
    "502 with HTML": Raw(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"}),
    "503": error(503),
    "429": error(429, "slow down"),
    "408": error(408),
    "half a body": Half(),
    "half a body of the length it says": Half(honest=True),
    "200 with HTML": Raw(200, b"<html>please log in</html>", {"Content-Type": "text/html"}),
    "200 with another JSON": Raw(200, b'{"ok": true}'),
    "200 with no choices": Raw(200, b'{"choices": []}'),
    "200 with a null text": Raw(200, b'{"choices": [{"message": {"content": null}}]}'),
    "200 with a bad encoding": Raw(200, b"\x1f\x8bnot gzip", {"Content-Encoding": "gzip"}),
    "hang-up": HangUp(),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_asked_again(serve: Serve, fault: Action) -> None:
    server, judge = serve(first(fault))
    assert answer(judge, FORM, questions()).verdicts == (("harmful",),)
    assert len(server.bodies) == 2
    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize("dripping", [False, True], ids=["silent", "dripping"])
def test_a_server_that_never_answers_costs_one_time_limit_and_is_asked_again(serve: Serve, dripping: bool) -> None:
    server, judge = serve(first(Silence(dripping)), timeout=0.5)
    assert answer(judge, FORM, questions()).verdicts == (("harmful",),)
    assert len(server.bodies) >= 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (error(500, "out of memory", Retry_After="60"), "HTTP 500 'out of memory' (it asks to wait 60 s)"),
        (Half(), "RemoteProtocolError"),
        (Silence(), "no whole answer within 0.4 s"),
        (Raw(200, b"<html>"), "200 with a body that is no chat completion: '<html>'"),
    ],
    ids=["500", "half", "silent", "html"],
)
def test_patience_ends_and_says_what_came_last(serve: Serve, fault: Action, says: str) -> None:
    server, judge = serve(always(fault), timeout=0.4 if isinstance(fault, Silence) else 4.0, patience=4.0)
    with pytest.raises(Unavailable) as caught:
        answer(judge, FORM, questions(3))
    text = str(caught.value)
    assert text.startswith(f"judge strict: no answer from {server.url} within 4 s, ")
    assert says in text
    assert text.endswith("see whether it is up, or raise patience")
    assert "\n" not in text
    assert spent(judge) == Spent()


def test_a_server_that_is_not_there(serve: Serve) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets this port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        _, judge = serve(always(HARMFUL), timeout=2.0, patience=2.0)
        gone = replace(judge, endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(Unavailable, match="the last: ConnectError"):
            answer(gone, FORM, questions())


def test_retry_after_is_kept_for_all_questions(serve: Serve) -> None:
    times: list[float] = []

    def rule(body: Body, number: int) -> Action:
        times.append(time.monotonic())
        return error(429, Retry_After="1.2") if number == 0 else HARMFUL

    server, judge = serve(rule, concurrency=1)
    assert answer(judge, FORM, questions(3)).asked == 3
    assert len(server.bodies) == 4
    assert all(later - times[0] >= 1.15 for later in times[1:])


def test_a_retry_after_may_be_a_date(serve: Serve) -> None:
    server, judge = serve(
        first(error(503, Retry_After=formatdate(time.time() + 90, usegmt=True))), patience=5, timeout=1
    )
    with pytest.raises(Unavailable, match=r"it asks to wait \d\d s"):
        answer(judge, FORM, questions())
    assert len(server.bodies) == 1  # waiting longer than patience is no use


@pytest.mark.parametrize("value", ["soon", "-3", "1e9999", ""])
def test_a_retry_after_that_says_nothing_is_passed_over(serve: Serve, value: str) -> None:
    server, judge = serve(first(error(503, Retry_After=value)))
    assert answer(judge, FORM, questions()).verdicts == (("harmful",),)
    assert len(server.bodies) == 2


def test_a_used_up_account_is_not_asked_again(serve: Serve) -> None:
    body = json.dumps({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}).encode()
    server, judge = serve(always(Raw(429, body)))
    with pytest.raises(Unavailable, match="the account of this key is used up: HTTP 429 'You exceeded your quota'"):
        answer(judge, FORM, questions())
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "does not accept the key (A_KEY)"),
        (403, "does not allow"),
        (404, "no such path or model"),
        (307, "elsewhere"),
    ],
)
def test_what_no_later_try_can_help_ends_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int, says: str
) -> None:
    monkeypatch.setenv("A_KEY", "sk-secret-1234")
    server, judge = serve(always(error(status, "no: sk-secret-1234 is wrong")), key="A_KEY")
    with pytest.raises(Unavailable) as caught:
        answer(judge, FORM, questions())
    assert says in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert server.keys == ["Bearer sk-secret-1234"]


def test_a_key_is_not_shown_where_a_message_is_cut_in_the_middle_of_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "sk-" + "z" * 60)
    _, judge = serve(always(error(401, "x" * 130 + " sk-" + "z" * 60)), key="A_KEY")
    with pytest.raises(Unavailable) as caught:
        answer(judge, FORM, questions())
    assert "zzz" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_missing_is_named(serve: Serve, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("A_KEY", value)
    server, judge = serve(always(HARMFUL), key="A_KEY")
    with pytest.raises(Unavailable, match="the environment variable A_KEY is not set"):
        answer(judge, FORM, questions())
    assert not server.bodies


INVALID = {
    "prose": Say("This is harmful."),
    "unknown verdict": Say(verdict("bad")),
    "wrong JSON": Say('{"reason": "x", "verdict": "harmful"'),
    "cut": Say(verdict("harmful"), finish="length"),
    "empty": Say(""),
}


@pytest.mark.parametrize("fault", INVALID.values(), ids=INVALID)
def test_a_reply_that_is_no_verdict_is_paid_for_and_asked_again(serve: Serve, fault: Say) -> None:
    server, judge = serve(first(fault), prices={"input": 1.0, "output": 10.0})
    assert answer(judge, FORM, questions()).verdicts == (("harmful",),)
    assert len(server.bodies) == 2
    assert spent(judge) == Spent(2, 1, 200, 20, 2e-4 + 2e-4)


@pytest.mark.parametrize("fault", INVALID.values(), ids=INVALID)
def test_a_judge_that_gives_no_verdict_gives_no_score(serve: Serve, fault: Say) -> None:
    server, judge = serve(always(fault))
    with pytest.raises(Unjudged, match=r"^judge strict: item item-0: no verdict; the last reply: "):
        answer(judge, FORM, questions())
    assert len(server.bodies) == 3
    with Cache(judge.cache) as cache:
        assert cache.spent("tests").invalid == 3


@pytest.mark.parametrize(
    "fault",
    [Say("", refusal="I will not"), Say("", finish="content_filter"), error(400, "input too long"), error(413)],
    ids=["refusal", "filter", "400", "413"],
)
def test_a_judge_that_refuses_one_answer_fails_its_candidate(serve: Serve, fault: Action) -> None:
    server, judge = serve(always(fault), structured="none")
    with pytest.raises(Unjudged, match="judge strict: item item-0: "):
        answer(judge, FORM, questions())
    assert len(server.bodies) == 1


def test_verdicts_before_a_failure_are_kept(serve: Serve) -> None:
    server, judge = serve(lambda body, number: HARMFUL if number < 5 else error(401), concurrency=1)
    with pytest.raises(Unavailable):
        answer(judge, FORM, questions(10))
    server.rule = always(HARMFUL)
    found = answer(judge, FORM, questions(10))
    assert len(found.verdicts) == 10
    assert found.asked == 5


def test_a_server_without_structured_output_is_asked_without(serve: Serve) -> None:
    def rule(body: Body, number: int) -> Action:
        return error(400, "response_format: unknown field") if "response_format" in body else HARMFUL

    server, judge = serve(rule, concurrency=1)
    assert answer(judge, FORM, questions(4)).asked == 4
    assert sum("response_format" in body for body in server.bodies) == 1  # learnt once
    _, strict = serve(rule, structured="schema", cache=judge.cache + "2")
    with pytest.raises(Unjudged, match="response_format: unknown field"):
        answer(strict, FORM, questions())


def test_a_limit_of_money_stops_before_the_next_question(serve: Serve) -> None:
    # 100 tokens in and 10 out cost 2e-4.
    server, judge = serve(always(HARMFUL), prices={"input": 1.0, "output": 10.0}, limit=0.00055, concurrency=1)
    with pytest.raises(
        Unavailable, match=r"has cost 0.0006 of at most 0.00055; .* raise limit \(judges.strict.limit\)"
    ):
        answer(judge, FORM, questions(10))
    assert len(server.bodies) == 3
    assert answer(judge, FORM, questions(3)).asked == 0  # what is known costs nothing
    with pytest.raises(Unavailable, match="has cost"):
        answer(judge, FORM, questions(4))
    more = replace(judge, limit=1.0)
    assert answer(more, FORM, questions(10)).asked == 7


def test_a_limit_needs_a_server_that_reports_usage(serve: Serve) -> None:
    _, judge = serve(always(Say(verdict("harmful"), usage=None)), prices={"input": 1.0, "output": 1.0}, limit=1.0)
    with pytest.raises(Unavailable, match="does not say how many tokens it used"):
        answer(judge, FORM, questions())


def test_no_more_requests_at_once_than_stated(serve: Serve) -> None:
    three = threading.Barrier(3, timeout=60)

    def rule(body: Body, number: int) -> Action:
        three.wait()
        return HARMFUL

    server, judge = serve(rule, concurrency=3)
    answer(judge, FORM, questions(12))
    assert server.most_at_once == 3


def test_what_is_under_way_when_a_batch_fails_is_paid_for_and_kept(serve: Serve) -> None:
    both = threading.Barrier(2, timeout=60)

    def rule(body: Body, number: int) -> Action:
        if number < 2:
            both.wait()
        if "text 0 " in body["messages"][0]["content"]:
            return error(401)
        time.sleep(2.0)  # so that the other one has failed by then
        return HARMFUL

    server, judge = serve(rule, concurrency=2)
    with pytest.raises(Unavailable, match="does not accept the key"):
        answer(judge, FORM, questions(6))
    assert len(server.bodies) == 2  # nothing more was asked
    assert spent(judge).replies == 1
    assert answer(judge, FORM, questions(2)[1:]).asked == 0
