"""The sandbox refuses what it says it refuses; pass@k is the estimator of Chen et al. 2021."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from evaluators._errors import InputError
from evaluators._sandbox import Limits, pass_all, passes
from evaluators._transformers import transformers_engine
from evaluators._types import Item
from evaluators.code_pass_at_k import CodePassAtK, code_pass_at_k, pass_at_k

from . import samples

LIMITS = Limits(1, 1 << 30)
TRIED = "try:\n    {}\n    done = True\nexcept (OSError, PermissionError):\n    done = False\nassert not done"


def tried(line: str, *imports: str) -> str:
    return "".join(f"import {name}\n" for name in imports) + TRIED.format(line)


@pytest.mark.parametrize(
    "program",
    [
        "",
        "import collections, functools, heapq, itertools, json, math, random, re, statistics, typing",
        "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
        "print('x' * 10**6)",
        "import os\nassert 'HOME' not in os.environ and 'PATH' not in os.environ",
        "assert open('/proc/self/status').read()",
        tried("socket.socket()", "socket"),
        tried("socket.socketpair()", "socket"),
        tried("urllib.request.urlopen('http://127.0.0.1:1')", "urllib.request"),
        tried("os.fork()", "os"),
        tried("subprocess.run(['true'])", "subprocess"),
        tried("os.execv('/bin/true', ['true'])", "os"),
        tried("open('left', 'w')"),
        tried("open('/tmp/left', 'a')"),
        tried("os.mkdir('left')", "os"),
        tried("os.unlink('/etc/hostname')", "os"),
        tried("os.rename('/etc/hostname', '/etc/h')", "os"),
        tried("os.chmod('/etc/hostname', 0)", "os"),
        tried("os.kill(os.getppid(), 0)", "os"),
        tried("os.memfd_create('left')", "os"),
    ],
)
def test_runs_to_its_end_and_is_refused_what_it_must_not_do(program: str) -> None:
    assert passes(program, LIMITS)


@pytest.mark.parametrize(
    "program",
    [
        "1 / 0",
        "not python",
        "import sys\nsys.exit(0)",  # an early exit must not look like success
        "import os\nos._exit(0)",
        "while True: pass",
        "x = bytearray(3 << 30)",
        "def f(): f()\nf()",
        "import os\nos.write(3, b'x')",
        "import ctypes\nctypes.string_at(0)",
    ],
)
def test_fails(program: str) -> None:
    assert not passes(program, LIMITS)


def test_many_at_once_in_order() -> None:
    assert pass_all(["", "1 / 0", ""], LIMITS, 3) == [True, False, True]


def test_a_machine_without_the_means_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from evaluators import _sandbox

    # The real runner on an interpreter that believes to be on another machine.
    runner = tmp_path / "runner.py"
    text = _sandbox.RUNNER.read_text(encoding="utf-8")
    runner.write_text(text.replace("platform.machine()", "'riscv64'"), encoding="utf-8")
    monkeypatch.setattr(_sandbox, "RUNNER", runner)
    with pytest.raises(RuntimeError, match="it needs Linux on x86_64 or aarch64, this is linux on riscv64"):
        passes("", LIMITS)


@pytest.mark.parametrize(
    ("n", "passed", "k"), [(1, 0, 1), (1, 1, 1), (5, 2, 1), (5, 2, 3), (6, 3, 4), (10, 1, 10), (4, 4, 2)]
)
def test_the_estimate_is_the_share_of_draws_of_k_that_hold_a_pass(n: int, passed: int, k: int) -> None:
    draws = list(combinations([True] * passed + [False] * (n - passed), k))
    assert pass_at_k(n, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def item(answer: str, tests: str, prompt: str = "p") -> Item:
    return Item("i", prompt, answer, "en", "g", "", "search", tests=tests)


def test_fenced_blocks_and_texts_that_go_on() -> None:
    kind = code_pass_at_k()
    one = item("x = 1", "assert x == 1")
    assert kind.grade(one, "Here it is:\n```python\nx = 1\n```\nThat was easy.") == 1
    assert kind.grade(one, "```\nx = 1") == 1
    assert kind.grade(one, "Here it is: x = 1") == 0
    complete = code_pass_at_k(complete=True)
    assert complete.grade(item("    return 1", "assert f() == 1", "def f():\n"), "    return 1") == 1


def test_items_that_prove_nothing_are_refused() -> None:
    kind = code_pass_at_k()
    with pytest.raises(InputError, match="1 of 1 items have no tests: i"):
        kind.check([item("x = 1", "")])
    with pytest.raises(InputError, match="1 answers fail their tests: i"):
        kind.check([item("x = 2", "assert x == 1")])
    with pytest.raises(InputError, match="1 tests pass without an answer: i"):
        kind.check([item("x = 1", "pass")])
    with pytest.raises(InputError, match="k = 5 needs at least as many samples, got 2"):
        code_pass_at_k(k=5, samples=2)


def test_several_samples_of_a_live_model() -> None:
    engine = transformers_engine(str(samples.DEMO), dtype="float32", device="cpu")
    # The demo answers "number 2" with "two": as a program, a name that is known or not.
    rows = [Item(str(n), f"number {n}", "two", "en", str(n), "", "search", tests="two = two") for n in (2, 3)]
    kind = code_pass_at_k(k=2, samples=4, temperature=1.5, max_new_tokens=6)
    assert isinstance(kind, CodePassAtK)
    prompts = [row.prompt for row in rows for _ in range(4)]
    values = kind.score(engine, rows)
    assert values == kind.score(engine, rows)
    assert values == (0.0, 0.0)  # a name alone is no program that ends
    easy = [Item(r.id, r.prompt, r.answer, "en", r.id, "", "search", tests="pass") for r in rows]
    assert len(prompts) == 8
    assert all(0 <= value <= 1 for value in kind.score(engine, easy))
