"""What the judging kinds promise, with a real model and a real server; and what their values mean."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluators._errors import InputError
from evaluators._schema import build, load_kind, options_of
from evaluators._transformers import TransformersEngine, transformers_engine
from evaluators._types import Evaluator, Item
from evaluators.judge_harm import JudgeHarm, judge_harm
from evaluators.judge_winrate import JudgeWinrate, judge_winrate
from evaluators.judges.base import weights_identity
from evaluators.judges.cache import Cache
from evaluators.judges.errors import Unjudged
from evaluators.judges.relative import relative_change
from evaluators.judges.tallies import position_bias

from ..conftest import sentences
from .conftest import Serve
from .server import Action, Body, Say, by_word, sections, verdict

LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru", "sw")
KINDS = ("judge_harm", "judge_winrate")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> TransformersEngine:
    return transformers_engine(str(checkpoint), dtype="float32", device="cpu", batch_tokens=300)


def items(count: int = 28) -> list[Item]:
    prompts = sentences(count, 12)
    return [
        Item(str(row), prompts[row], f"steps: {prompts[row]} " * 3, LANGUAGES[row % 7], str(row // 2), "", "search")
        for row in range(count)
    ]


def made(kind: str, serve: Serve, engine: TransformersEngine) -> JudgeHarm | JudgeWinrate:
    _, judge = serve(by_word)
    evaluator = build(kind, {"judge": judge, "max_new_tokens": 4})
    if isinstance(evaluator, JudgeWinrate):
        return evaluator.with_base(engine, items(), "tiny")
    assert isinstance(evaluator, JudgeHarm)
    return evaluator


@pytest.mark.parametrize("kind", KINDS)
def test_gold_grades_one_and_empty_grades_zero(kind: str, serve: Serve, engine: TransformersEngine) -> None:
    evaluator = made(kind, serve, engine)
    for item in items():
        assert evaluator.grade(item, evaluator.gold(item)) == 1.0
        # An empty response ties with a base that is empty too.
        silent = isinstance(evaluator, JudgeWinrate) and not (evaluator.base or {})[item.prompt].strip()
        assert evaluator.grade(item, evaluator.empty(item)) == (0.5 if silent else 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_values_depend_on_their_own_item_only(kind: str, serve: Serve, engine: TransformersEngine) -> None:
    evaluator: Evaluator = made(kind, serve, engine)
    evaluator.check(items())
    rows = items()
    values = dict(zip(rows, evaluator.score(engine, rows), strict=True))
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values.values())
    shuffled = random.Random(0).sample(rows, len(rows))
    assert evaluator.score(engine, shuffled) == tuple(values[row] for row in shuffled)
    assert evaluator.score(engine, rows[5:6]) == (values[rows[5]],)
    assert evaluator.score(engine, []) == ()
    copy = pickle.loads(pickle.dumps(evaluator))
    assert copy == evaluator
    assert copy.version == evaluator.version


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_typed_and_the_version_tells_what_changes_values(kind: str, serve: Serve) -> None:
    _, judge = serve(by_word)
    assert all(not option.required for option in options_of(load_kind(kind)))
    factory = load_kind(kind)
    plain = factory(judge=judge)
    assert plain.kind == kind
    for changed in (
        {"judge": replace(judge, model="other")},
        {"judge": replace(judge, endpoint="http://127.0.0.1:1/v1")},
        {"judge": replace(judge, votes=3, temperature=1.0)},
        {"judge": judge, "language": "en"},
        {"judge": judge, "max_new_tokens": 9},
    ):
        assert factory(**changed).version != plain.version
    for same in ({"limit": 1.0, "prices": (1.0, 1.0)}, {"concurrency": 1}, {"timeout": 1.0}, {"key": "A_KEY"}):
        assert factory(judge=replace(judge, **same)).version == plain.version


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("judge_harm", {"judge": "strict"}, "judge_harm: there is no judge 'strict'"),
        ("judge_harm", {"judge": {"model": "x"}}, "a judge needs the key 'endpoint'"),
        ("judge_harm", {"prompt": "harm-0"}, "no prompt 'harm-0'; there are harm-1, winrate-1"),
        ("judge_harm", {"prompt": "winrate-1"}, "the user text must hold $question, $fence, $answer"),
        ("judge_harm", {"language": "de"}, "prompt harm-1 has no language 'de'; it has ar, en, es, fr, hi, ru"),
        ("judge_harm", {"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1 up, got 0"),
        ("judge_winrate", {"against": "me"}, "unknown opponent 'me'"),
    ],
)
def test_bad_options(kind: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(InputError) as caught:
        build(kind, options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_judge_nothing_can_be_scored(kind: str) -> None:
    with pytest.raises(InputError, match=rf"{kind}: needs a judge; describe one under judges and name it"):
        build(kind, {}).check(items())


def test_win_rate_against_answers_needs_them(serve: Serve) -> None:
    _, judge = serve(by_word)
    bare = [replace(item, answer=" ") for item in items(2)]
    with pytest.raises(InputError, match="2 of 2 items have no answer"):
        judge_winrate(judge=judge, against="answer").check(bare)
    judge_winrate(judge=judge).check(bare)


def test_the_share_of_votes_is_the_value(serve: Serve) -> None:
    def rule(body: Body, number: int) -> Action:
        return Say(verdict("harmful" if body["seed"] == 7 else "harmless"))

    server, judge = serve(rule, votes=3, temperature=0.7, seed=7)
    assert judge_harm(judge=judge).grade(items(1)[0], "some text") == pytest.approx(1 / 3)
    assert sorted(body["seed"] for body in server.bodies) == [7, 8, 9]
    with Cache(judge.cache) as cache:
        counts = cache.tallies("tests")["judge_harm"]
    assert counts == {"answers": 1, "pattern 1,2": 1, "split answers": 1, "vote harmful": 1, "vote harmless": 2}


def test_both_orders_are_shown_and_a_judge_with_a_place_gives_no_win(serve: Serve) -> None:
    server, judge = serve(lambda body, number: Say(verdict("first")))
    evaluator = replace(judge_winrate(judge=judge), base={"q": "the base's"})  # type: ignore[type-var]
    assert isinstance(evaluator, JudgeWinrate)
    assert evaluator.grade(replace(items(1)[0], prompt="q"), "mine") == 0.5
    shown = Counter(tuple(sections(body)) for body in server.bodies)
    assert shown == {("q", "mine", "the base's"): 1, ("q", "the base's", "mine"): 1}
    with Cache(judge.cache) as cache:
        bias = position_bias(cache.tallies("tests")["judge_winrate"])
    assert bias is not None
    assert (bias.pairs, bias.consistent, bias.first, bias.ties) == (1, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("mine", "value"), [("longer than it", 1.0), ("xx", 0.0), ("as long", 0.5), ("same it", 0.5), (" ", 0.0)]
)
def test_win_tie_loss(serve: Serve, mine: str, value: float) -> None:
    server, judge = serve(by_word)
    evaluator = judge_winrate(judge=judge, against="answer")
    assert evaluator.grade(replace(items(1)[0], answer="same it"), mine) == value
    assert len(server.bodies) == (0 if mine in ("same it", " ") else 2)  # what is known beforehand is not asked


def test_the_base_answers_once_and_ties_with_itself(serve: Serve, engine: TransformersEngine, checkpoint: Path) -> None:
    server, judge = serve(by_word)
    evaluator = judge_winrate(judge=judge, max_new_tokens=6)
    assert isinstance(evaluator, JudgeWinrate)
    identity = weights_identity(str(checkpoint), "float32", "transformers")
    with pytest.raises(ValueError, match="has no response of the base yet"):
        evaluator.grade(items(1)[0], "x")
    first = evaluator.with_base(engine, items(), identity)
    before = engine.tokens
    assert evaluator.with_base(engine, items(), identity) == first
    assert engine.tokens == before  # read, not generated
    assert evaluator.with_base(engine, items(), identity + "'") == first
    assert engine.tokens > before
    assert first.base == dict(
        zip(
            [item.prompt for item in items()],
            engine.generate([item.prompt for item in items()], max_new_tokens=6),
            strict=True,
        )
    )
    assert set(first.score(engine, items())) == {0.5}
    assert not server.bodies


def test_the_identity_of_the_base_changes_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = weights_identity(str(tmp_path), "float32", "transformers")
    assert weights_identity(str(tmp_path), "float32", "transformers") == before
    assert weights_identity(str(tmp_path), "bfloat16", "transformers") != before
    (tmp_path / "model.safetensors").write_bytes(b"22")
    assert weights_identity(str(tmp_path), "float32", "transformers") != before


def test_one_answer_without_a_verdict_leaves_no_score(serve: Serve, engine: TransformersEngine) -> None:
    _, judge = serve(lambda body, number: Say("no idea" if "poison" in sections(body)[1] else verdict("harmless")))
    evaluator = judge_harm(judge=judge)
    rows = items(3)
    assert isinstance(evaluator, JudgeHarm)
    assert evaluator.values(rows, ["a", "b", "c"]) == (0.0, 0.0, 0.0)
    with pytest.raises(Unjudged, match="item 1: no verdict"):
        evaluator.values(rows, ["a", "poison", "c"])


def test_relative_change_is_that_of_the_papers_with_its_error() -> None:
    rng = np.random.default_rng(0)
    groups = [str(row // 2) for row in range(400)]
    base = (rng.random(400) < 0.4).astype(float)
    half = base * (rng.random(400) < 0.5)
    found = relative_change(half, base, groups)
    assert found is not None
    assert found.value == pytest.approx(100 * (half.mean() - base.mean()) / base.mean())
    draws = []
    for _ in range(2000):
        rows = (2 * rng.integers(0, 200, 200)[:, None] + np.arange(2)).ravel()
        draws.append(100 * (half[rows].mean() / base[rows].mean() - 1))
    assert found.stderr == pytest.approx(np.std(draws), rel=0.1)
    assert relative_change(base, base, groups) is not None
    assert relative_change(base, np.zeros(400), groups) is None
    same = relative_change(base, base, groups)
    assert same is not None
    assert (same.value, same.stderr) == (0.0, 0.0)
