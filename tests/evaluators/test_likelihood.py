"""Likelihoods, sampling, stop texts and shared prefixes of the transformers engine, against plain transformers."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evaluators import _transformers
from evaluators._decoding import draw
from evaluators._engine import Sampling
from evaluators._errors import InputError
from evaluators._tokens import shared_prefix
from evaluators._transformers import TransformersEngine, transformers_engine

from .conftest import sentences, write_model
from .samples import DEMO

PROMPTS = sentences(24, 21)
TEXTS = sentences(24, 22, longest=3)


def engine_of(path: Path, **options: Any) -> TransformersEngine:
    return transformers_engine(str(path), dtype="float32", device="cpu", **options)


@lru_cache(maxsize=1)
def plain(path: Path) -> tuple[Any, Any]:
    """The model and the tokenizer, as transformers has them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(path)


def oracle(path: Path, prompt: str, text: str, *, chat: bool) -> tuple[float, int, bool]:
    """One row, one plain forward pass."""
    model, tokenizer = plain(path)
    if chat:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        opening = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False).removesuffix(tokenizer.eos_token)
        special = False
    else:
        opening, whole, special = prompt, prompt + text, True
    head = tokenizer(opening, add_special_tokens=special)["input_ids"] or [tokenizer.bos_token_id]
    ids = tokenizer(whole, add_special_tokens=special)["input_ids"]
    tail = ids[len(head) :] if ids[: len(head)] == head else tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        chances = model(torch.tensor([head + tail])).logits[0].log_softmax(dim=-1)
    places = range(len(head) - 1, len(head) + len(tail) - 1)
    value = sum(float(chances[place, token]) for place, token in zip(places, tail, strict=True))
    return value, len(tail), all(int(chances[p].argmax()) == t for p, t in zip(places, tail, strict=True))


@pytest.mark.parametrize("chat", [True, False])
def test_likelihoods_equal_one_plain_pass_each(any_checkpoint: Path, chat: bool) -> None:
    texts = [text if chat else f" {text}" for text in TEXTS]
    expected = [oracle(any_checkpoint, prompt, text, chat=chat) for prompt, text in zip(PROMPTS, texts, strict=True)]
    for batch_tokens in (None, 60):
        found = engine_of(any_checkpoint, batch_tokens=batch_tokens).loglikelihood(PROMPTS, texts, chat=chat)
        assert [(one.tokens, one.greedy) for one in found] == [(count, same) for _, count, same in expected]
        assert [one.logprob for one in found] == pytest.approx([value for value, _, _ in expected], rel=1e-4)


@pytest.mark.parametrize("most", [_transformers.BRANCHES, 5])
def test_choices_of_one_prompt_are_as_likely_as_each_alone(
    any_checkpoint: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transformers, "BRANCHES", most)
    engine = engine_of(any_checkpoint, batch_tokens=200)
    prompts = [prompt for prompt in PROMPTS[:8] for _ in range(5)]
    texts = [text for row in range(8) for text in (TEXTS[row], "7", "", "3 7", f"{TEXTS[row]} 3 cake help")]
    together = engine.loglikelihood(prompts, texts)
    alone = [engine.loglikelihood([prompt], [text])[0] for prompt, text in zip(prompts, texts, strict=True)]
    assert [(one.tokens, one.greedy) for one in together] == [(one.tokens, one.greedy) for one in alone]
    assert [one.logprob for one in together] == pytest.approx([one.logprob for one in alone], rel=1e-4)
    assert len({one.tokens for one in together}) > 2


def test_what_is_greedy_is_what_generate_writes() -> None:
    engine = engine_of(DEMO)
    prompts = [f"{word} {number}" for word in ("number", "nombre", "число") for number in range(20)]
    said = [text.strip() for text in engine.generate(prompts, max_new_tokens=10)]
    assert all(one.greedy for one in engine.loglikelihood(prompts, said))
    assert not any(one.greedy for one in engine.loglikelihood(prompts, [f"7 {text}" for text in said]))


def test_an_empty_prompt_is_the_start_of_a_text(tmp_path: Path) -> None:
    path = write_model(tmp_path / "raw", template=False)
    found = engine_of(path).loglikelihood([""], ["how to make"], chat=False)
    value, count, _ = oracle(path, "", "how to make", chat=False)
    assert found[0].tokens == count
    assert found[0].logprob == pytest.approx(value, rel=1e-4)


def test_a_prefix_that_prompts_share_changes_nothing(any_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = "tell me how to make a cake with 7 3 "
    prompts = [start + prompt for prompt in sentences(20, 23, longest=3)]
    pairs = [prompt for prompt in prompts for _ in range(2)], ["7", "cake 3"] * len(prompts)
    engine = engine_of(any_checkpoint)
    monkeypatch.setattr(_transformers, "PREFIX", 10**6)
    expected = engine.generate(prompts, max_new_tokens=8), engine.loglikelihood(*pairs)
    answers = [text if row % 3 else "7 cake" for row, text in enumerate(expected[0])]
    same = engine.matches(prompts, answers)
    monkeypatch.setattr(_transformers, "PREFIX", 4)
    rows = [engine._encoder.prompt(prompt) for prompt in prompts]
    assert shared_prefix(rows) > 8
    assert engine.generate(prompts, max_new_tokens=8) == expected[0]
    found = engine.loglikelihood(*pairs)
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected[1]], rel=1e-4)
    assert engine.matches(prompts, answers) == same
    small = engine_of(any_checkpoint, batch_tokens=100)
    assert small.generate(prompts, max_new_tokens=8) == expected[0]
    assert small.matches(prompts, answers) == same


def test_a_response_ends_before_a_stop_text(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    full = engine.generate(PROMPTS, max_new_tokens=10)
    ends = Counter(word for text in full for word in set(text.split()[1:]))
    end = ends.most_common(1)[0][0]
    found = engine.generate(PROMPTS, max_new_tokens=10, until=[end, "never there"])
    assert found == [text.split(end)[0] for text in full]
    assert found != full


def test_samples_are_the_same_in_every_batch_and_other_with_every_key(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    prompts = [PROMPTS[0]] * 6 + PROMPTS[:6]
    drawn = Sampling(1.0, 1.0, 0, tuple(map(str, range(12))))
    together = engine.generate(prompts, max_new_tokens=6, sampling=drawn)
    assert together == engine_of(checkpoint, batch_tokens=40).generate(prompts, max_new_tokens=6, sampling=drawn)
    assert len(set(together[:6])) > 3
    assert together != engine.generate(prompts, max_new_tokens=6, sampling=Sampling(1.0, 1.0, 1, drawn.keys))
    cold = Sampling(1e-4, 1.0, 0, drawn.keys)
    assert engine.generate(prompts, max_new_tokens=6, sampling=cold) == engine.generate(prompts, max_new_tokens=6)


def test_draws_follow_the_distribution_and_the_nucleus() -> None:
    chance = torch.tensor([0.5, 0.25, 0.15, 0.1])
    rows = 4000
    logits = chance.log().expand(rows, -1)
    for top_p, expected in ((1.0, chance), (0.7, torch.tensor([2 / 3, 1 / 3, 0, 0]))):
        sampling = Sampling(1.0, top_p, 3, tuple(map(str, range(rows))))
        counts = torch.bincount(draw(logits, sampling, range(rows), 1), minlength=4) / rows
        # Four standard errors of a share of 4,000 draws.
        assert torch.allclose(counts, expected, atol=4 * math.sqrt(0.25 / rows))
        assert (counts[expected == 0] == 0).all()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_bad_sampling(temperature: float, top_p: float) -> None:
    with pytest.raises(InputError, match="must be above 0"):
        Sampling(temperature, top_p, 0, ())


def test_broken_weights_have_no_likelihood(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    for tensor in engine.weights().values():
        tensor.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        engine.loglikelihood(PROMPTS, TEXTS)


def test_too_long_with_a_continuation_is_named(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="1 of 2 prompts with the continuation are longer"):
        engine_of(checkpoint).loglikelihood(["how", "to"], ["cake", "cake " * 80])
