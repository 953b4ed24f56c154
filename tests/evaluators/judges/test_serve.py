"""The protocol against `transformers serve`, with a real model that was taught to judge one word."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evaluators._types import Item
from evaluators.judge_harm import JudgeHarm, judge_harm
from evaluators.judge_winrate import judge_winrate
from evaluators.judges.cache import Cache
from evaluators.judges.errors import Unavailable, Unjudged
from evaluators.judges.probe import probe
from evaluators.judges.settings import Judge, judge_of

from ..conftest import SHAPE, WORDS, tokenizer

pytestmark = pytest.mark.slow

START_LIMIT_S = 240.0
STEPS = 400
PROMPT = "system: judge\nuser: |\n  $fence $question\n  $answer\n"


def verdict(word: str) -> str:
    return json.dumps({"reason": word, "verdict": word})


def taught(folder: Path) -> Path:
    """A judge of 30,000 parameters: harmful if the answer ends in "cake"."""
    made = tokenizer()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **(SHAPE | {"max_position_embeddings": 512, "hidden_size": 48}), num_key_value_heads=4, tie_word_embeddings=True
    )
    model = transformers.LlamaForCausalLM(config)
    draw = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=STEPS)
    for _ in range(STEPS):
        rows, starts = [], []
        for _ in range(16):
            harmful = draw.random() < 0.5
            chat, answer = messages(draw, harmful), verdict("harmful" if harmful else "harmless")
            prompt = made.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            whole = made(prompt + answer + made.eos_token, add_special_tokens=False)["input_ids"]
            starts.append(len(made(prompt, add_special_tokens=False)["input_ids"]))
            rows.append(whole)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        labels = ids.clone()
        for row, (start, tokens) in enumerate(zip(starts, rows, strict=True)):
            labels[row, :start] = -100
            labels[row, len(tokens) :] = -100
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert float(loss.detach()) < 0.01, f"the judge has not learnt: loss {float(loss.detach()):.3f}"
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def messages(draw: random.Random, harmful: bool) -> list[dict[str, str]]:
    fence = f"#{draw.getrandbits(40):010x}"
    words = [word for word in WORDS if word != "cake"]
    question, text = (" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(2))
    ending = "cake" if harmful else draw.choice(words)
    user = f"{fence} {question}\n{text} {ending}"
    return [{"role": "system", "content": "judge"}, {"role": "user", "content": user}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(base URL, model) of `transformers serve`."""
    folder = taught(tmp_path_factory.mktemp("judge") / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    arguments = [str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = folder.parent / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-c", code, "serve", *arguments], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not healthy(port):
            assert process.poll() is None, f"transformers serve ended:\n{log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"transformers serve did not start:\n{log.read_text()[-2000:]}"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        process.terminate()
        process.wait(60)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def settings(served: tuple[str, Path], tmp_path: Path, **changes: Any) -> Judge:
    url, model = served
    plain = {
        "endpoint": url,
        "model": str(model),
        "cache": str(tmp_path / "c.sqlite"),
        "account": "t",
        "max_tokens": 64,
    }
    return judge_of(plain | {"name": "taught", "concurrency": 2} | changes)


@pytest.fixture
def prompt(tmp_path: Path) -> str:
    folder = tmp_path / "word-1"
    folder.mkdir()
    (folder / "en.yaml").write_text(PROMPT)
    return str(folder)


def items(count: int) -> list[Item]:
    draw = random.Random(7)
    return [Item(str(n), " ".join(draw.choices(WORDS[:9], k=3)), "", "en", str(n), "", "search") for n in range(count)]


def test_a_real_model_judges_over_the_real_protocol(served: tuple[str, Path], tmp_path: Path, prompt: str) -> None:
    judge = settings(served, tmp_path, prices={"input": 1.0, "output": 1.0})
    assert probe(judge).problem == ""
    evaluator = judge_harm(judge=judge, prompt=prompt)
    assert isinstance(evaluator, JudgeHarm)
    rows = items(16)
    responses = [f"tell me {'cake' if n % 2 else 'the'}" for n in range(16)]
    values = evaluator.values(rows, responses)
    assert sum(value == n % 2 for n, value in enumerate(values)) >= 14  # what it was taught, on texts it never saw
    with Cache(judge.cache) as cache:
        spent = cache.spent("t")
    assert spent.replies >= 16
    assert spent.tokens_in > 16 * 20
    assert 16 * 10 < spent.tokens_out < 64 * spent.replies
    assert spent.money == pytest.approx((spent.tokens_in + spent.tokens_out) / 1e6)
    assert evaluator.values(rows, responses) == values
    with Cache(judge.cache) as cache:
        assert cache.spent("t") == spent


def test_a_reply_that_is_cut_is_no_verdict(served: tuple[str, Path], tmp_path: Path, prompt: str) -> None:
    judge = settings(served, tmp_path, max_tokens=3)
    with pytest.raises(Unjudged, match=r"no verdict; the last reply: cut at max_tokens \(3\); raise it"):
        judge_harm(judge=judge, prompt=prompt).grade(items(1)[0], "a cake")


def test_a_model_that_does_not_judge_gives_no_score(served: tuple[str, Path], tmp_path: Path) -> None:
    judge = settings(served, tmp_path)
    evaluator = judge_winrate(judge=judge, against="answer")  # a prompt and a form that it was never taught
    with pytest.raises(Unjudged, match="judge taught: item 0: no verdict"):
        evaluator.grade(Item("0", "tell me", "the date", "en", "0", "", "search"), "the cake")


def test_sampled_votes_differ_and_repeat(served: tuple[str, Path], tmp_path: Path, prompt: str) -> None:
    settled = {"votes": 3, "temperature": 1.0, "seed": 11, "max_tokens": 64}
    judges = [settings(served, tmp_path, cache=str(tmp_path / f"{n}.sqlite"), **settled) for n in range(2)]
    first, second = (judge_harm(judge=judge, prompt=prompt).grade(items(1)[0], "tell me cake") for judge in judges)
    assert first == second > 0.5


def test_a_model_that_is_not_served_ends_at_once(served: tuple[str, Path], tmp_path: Path, prompt: str) -> None:
    judge = settings(served, tmp_path, model="another/model")
    with pytest.raises((Unavailable, Unjudged), match="pinned"):
        judge_harm(judge=judge, prompt=prompt).grade(items(1)[0], "a cake")
