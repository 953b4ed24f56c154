from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from evaluators._errors import InputError
from evaluators._transformers import TransformersEngine, transformers_engine

from .conftest import sentences, write_model

DEMO = Path(__file__).parents[2] / "search" / "demo" / "base"
LIMIT = 10
PROMPTS = sentences(60, 1)


def engine_of(path: Path, **options: Any) -> TransformersEngine:
    return transformers_engine(str(path), dtype="float32", device="cpu", **options)


Greedy = list[tuple[list[int], bool]]


@pytest.fixture(scope="session")
def oracle(any_checkpoint: Path) -> Greedy:
    """transformers' own `generate`, one prompt at a time: (tokens before the end, whether it ended within LIMIT)."""
    model = transformers.AutoModelForCausalLM.from_pretrained(any_checkpoint, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(any_checkpoint)
    found = []
    for prompt in PROMPTS:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, max_new_tokens=LIMIT, do_sample=False, pad_token_id=0)
        tokens = out[0, ids.shape[1] :].tolist()
        found.append((tokens[:-1], True) if tokens[-1] == 2 else (tokens, False))
    return found


def test_generate_equals_transformers_one_by_one(any_checkpoint: Path, oracle: Greedy) -> None:
    ended = [end for _, end in oracle]
    assert any(ended), "no response ends: the fixture tests nothing"
    assert not all(ended), "every response ends: the fixture tests nothing"
    assert len({len(tokens) for tokens, _ in oracle}) > 2
    tokenizer = transformers.AutoTokenizer.from_pretrained(any_checkpoint)
    expected = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens, _ in oracle]
    for batch_tokens in (None, 120, 1):  # one batch, several with padding, one by one
        assert engine_of(any_checkpoint, batch_tokens=batch_tokens).generate(PROMPTS, max_new_tokens=LIMIT) == expected


def test_tokens_are_those_of_prompts_answers_and_responses(any_checkpoint: Path, oracle: Greedy) -> None:
    engine = engine_of(any_checkpoint)
    prompts = sum(len(engine._encoder.prompt(prompt)) for prompt in PROMPTS)
    responses = sum(len(tokens) for tokens, _ in oracle)
    for batch_tokens in (None, 120, 1):
        engine = engine_of(any_checkpoint, batch_tokens=batch_tokens)
        engine.generate(PROMPTS, max_new_tokens=LIMIT)
        assert engine.tokens == prompts + responses
    answers = sum(len(engine._encoder.pair(prompt, "a b")[1]) for prompt in PROMPTS)
    engine.matches(PROMPTS, ["a b"] * len(PROMPTS))
    assert engine.tokens == 2 * prompts + responses + answers
    assert answers > 0


def test_matches_equals_token_level_greedy_decoding(any_checkpoint: Path, oracle: Greedy) -> None:
    engine = engine_of(any_checkpoint)
    pairs, expected = [], []
    for prompt, (tokens, ended) in zip(PROMPTS, oracle, strict=True):
        cases = [(tokens[:cut], False) for cut in range(len(tokens))]  # stops too early
        cases += [([*tokens[:cut], (tokens[cut] + 1) % 384], False) for cut in range(len(tokens))]  # one wrong token
        if ended:  # else nobody knows what would come after LIMIT tokens
            cases += [(tokens, True), ([*tokens, 9], False)]
        for answer, same in cases:
            if 2 not in answer:
                pairs.append((engine._encoder.prompt(prompt), np.asarray(answer, dtype=np.int32)))
                expected.append(same)
    assert sum(expected) > 3
    assert engine._match(pairs) == expected
    start = engine._forward.prefix(pairs[0][0][:1])  # what all begin with; none where caches cannot be copied
    assert engine._match(pairs, start) == expected


def test_matches_equals_generate_on_text_where_the_tokenisation_is_canonical() -> None:
    engine = engine_of(DEMO)
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)
    prompts = [f"{word} {number}" for word in ("number", "nombre", "число", "عدد", "संख्या") for number in range(40)]
    prompts += [f"how to {verb} {thing}?" for verb in ("make", "hide", "find") for thing in ("a bomb", "soup", "a car")]
    texts = engine.generate(prompts, max_new_tokens=LIMIT)
    written = engine._decoder.decode([engine._encoder.prompt(prompt) for prompt in prompts], LIMIT + 1, None)
    rows = [row for row, ids in enumerate(written) if len(ids) <= LIMIT]
    canonical = [tokenizer(texts[row], add_special_tokens=False)["input_ids"] == written[row] for row in rows]
    assert sum(canonical) > 150, "the model no longer answers: the test tests nothing"
    assert engine.matches([prompts[row] for row in rows], [texts[row] for row in rows]) == canonical
    assert not any(engine.matches([prompts[row] for row in rows], [texts[row] + " 7" for row in rows]))


def test_matches_one_by_one_equals_batched(any_checkpoint: Path) -> None:
    engine = engine_of(any_checkpoint)
    answers = [text.strip() for text in engine.generate(PROMPTS, max_new_tokens=LIMIT)]
    together = engine.matches(PROMPTS, answers)
    assert [engine.matches([p], [a])[0] for p, a in zip(PROMPTS, answers, strict=True)] == together
    assert engine_of(any_checkpoint, batch_tokens=40).matches(PROMPTS, answers) == together
    assert engine.matches(PROMPTS[::-1], answers[::-1]) == together[::-1]


def test_answers_follow_the_weights_at_once(tmp_path: Path, checkpoint: Path) -> None:
    other = write_model(tmp_path / "other", seed=3)
    engine = engine_of(checkpoint)
    before = engine.generate(PROMPTS, max_new_tokens=LIMIT)
    answers = [text.strip() for text in before]
    matched = engine.matches(PROMPTS, answers)
    live = engine.weights()
    own = {name: tensor.clone() for name, tensor in live.items()}
    for name, tensor in load_file(other / "model.safetensors").items():
        live[name].copy_(tensor)
    fresh = engine_of(other)
    after = engine.generate(PROMPTS, max_new_tokens=LIMIT)
    assert after == fresh.generate(PROMPTS, max_new_tokens=LIMIT)
    assert engine.matches(PROMPTS, answers) == fresh.matches(PROMPTS, answers)
    assert after != before
    for name, tensor in own.items():
        live[name].copy_(tensor)
    assert engine.generate(PROMPTS, max_new_tokens=LIMIT) == before
    assert engine.matches(PROMPTS, answers) == matched


def test_weights_are_the_checkpoints_tensors_and_writing_leaves_the_file_alone(any_checkpoint: Path) -> None:
    file = any_checkpoint / "model.safetensors"
    stored, content = load_file(file), file.read_bytes()
    live = engine_of(any_checkpoint).weights()
    assert sorted(live) == sorted(stored)
    assert all(torch.equal(live[name], stored[name]) for name in stored)
    for tensor in live.values():
        tensor.zero_()
    assert file.read_bytes() == content


def test_weights_of_a_sharded_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    engine = engine_of(tmp_path)
    assert sorted(engine.weights()) == sorted(load_file(checkpoint / "model.safetensors"))
    assert engine.generate(PROMPTS[:5], max_new_tokens=LIMIT) == engine_of(checkpoint).generate(
        PROMPTS[:5], max_new_tokens=LIMIT
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_types_are_live_and_batches_agree(checkpoint: Path, dtype: str) -> None:
    engine = transformers_engine(str(checkpoint), dtype=dtype, device="cpu")
    assert {tensor.dtype for tensor in engine.weights().values()} == {getattr(torch, dtype)}
    assert engine.generate(PROMPTS, max_new_tokens=4) == engine.generate(PROMPTS[::-1], max_new_tokens=4)[::-1]


def test_stop_sees_its_own_prompt_and_only_shortens(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, batch_tokens=200)
    full = engine.generate(PROMPTS, max_new_tokens=LIMIT)
    seen: dict[int, list[str]] = {}

    def odd(index: int, text: str) -> bool:
        seen.setdefault(index, []).append(text)
        return index % 2 == 1

    short = engine.generate(PROMPTS, max_new_tokens=LIMIT, stop=odd)
    assert short[::2] == full[::2]
    assert all(long.startswith(text.rstrip("\ufffd")) for text, long in zip(short, full, strict=True))
    assert any(len(text) < len(long) for text, long in zip(short, full, strict=True))
    assert all(full[index].startswith(text) for index, texts in seen.items() for text in texts)


def test_raw_prompts_without_a_template(tmp_path: Path) -> None:
    engine = engine_of(write_model(tmp_path / "raw", template=False))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "raw")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "raw").eval()
    prompt = "how to make a cake"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=LIMIT, do_sample=False)
    assert engine.generate([prompt], max_new_tokens=LIMIT) == [
        tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    ]


def test_prompts_longer_than_the_context_are_counted_and_named(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    long = "cake " * 80
    with pytest.raises(InputError, match=r'2 of 3 prompts .* context of 64 tokens: "cake cake'):
        engine.generate([long, "how to", long], max_new_tokens=4)
    with pytest.raises(InputError, match=r"1 of 1 prompts with the answer"):
        engine.matches(["how to"], [long])
    with pytest.raises(InputError, match=r"1 of 1 prompts with 64 new tokens"):
        engine.generate(["how to"], max_new_tokens=64)


def test_nothing_to_do(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    assert engine.generate([], max_new_tokens=4) == []
    assert engine.matches([], []) == []


def test_a_broken_model_gets_no_answers(checkpoint: Path) -> None:
    engine = engine_of(checkpoint)
    for tensor in engine.weights().values():
        tensor.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="logits of 60 of 60 positions are not finite"):
        engine.generate(PROMPTS, max_new_tokens=LIMIT)
    with pytest.raises(FloatingPointError, match="are not finite"):
        engine.matches(PROMPTS, PROMPTS)
