"""pass@k: the chance that one of k generated programs passes the item's tests (Chen et al. 2021). Larger is better."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._checks import answered, texts, whole
from ._engine import Sampling
from ._errors import InputError, some
from ._sandbox import Limits, check_sandbox, pass_all, passes
from ._types import Evaluator, Item, Room

if TYPE_CHECKING:
    from ._engine import Engine

RULES = 1
"""Raise when the same responses would get other values."""

_FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


def code_pass_at_k(
    *,
    k: int = 1,
    samples: int = 1,
    temperature: float = 0.2,
    top_p: float = 0.95,
    seed: int = 0,
    complete: bool = False,
    max_new_tokens: int = 512,
    until: Sequence[str] = (),
    seconds: int = 10,
    memory_mb: int = 1024,
) -> Evaluator:
    """Mean over items of the unbiased estimate of pass@k, for Python.

    Of n `samples` c pass: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv:2107.03374, equation 1). One sample is
    greedy; several are drawn. An item's `tests` are a program that fails when run behind a wrong answer; `answer` is a
    program that passes, which `check` runs, as it runs the tests behind nothing, which must fail.

    Programs run in a process each, without network, processes of their own or files to write, with limits
    (`_sandbox.py` says what that protects from). Linux on x86-64 or arm64.

    Args:
        k: tries.
        samples: programs generated for each item, at least k.
        temperature: of drawing; the paper takes 0.2 for pass@1 and 0.8 for pass@100.
        top_p: of drawing.
        seed: of drawing.
        complete: whether a response goes on with the prompt's text (HumanEval); else it is a program of its own, the
            first fenced block of the response where there is one.
        max_new_tokens: limit of a response.
        until: a response ends before the first of these texts; HumanEval's are class, def, #, if and print
            at the start of a line.
        seconds: of CPU time, for a program with its tests.
        memory_mb: of address space, for a program with its tests.

    Raises:
        InputError: a value out of range, fewer samples than k, or a machine that cannot run programs safely.
    """
    for name, value in (("k", k), ("samples", samples), ("max_new_tokens", max_new_tokens), ("seconds", seconds)):
        whole("code_pass_at_k", name, value)
    whole("code_pass_at_k", "memory_mb", memory_mb, low=64)
    whole("code_pass_at_k", "seed", seed, low=0)
    if samples < k:
        raise InputError(f"code_pass_at_k: k = {k} needs at least as many samples, got {samples}")
    Sampling(temperature, top_p, seed, ())  # refuses what is out of range
    limits = Limits(seconds, memory_mb << 20)
    ends = texts("code_pass_at_k", "until", until)
    return CodePassAtK(k, samples, temperature, top_p, seed, bool(complete), max_new_tokens, ends, limits)


@dataclass(frozen=True)
class CodePassAtK:
    """See `code_pass_at_k`."""

    k: int
    samples: int
    temperature: float
    top_p: float
    seed: int
    complete: bool
    max_new_tokens: int
    until: tuple[str, ...]
    limits: Limits
    kind: str = "code_pass_at_k"

    @property
    def version(self) -> str:
        """The rules, the interpreter and what changes values."""
        drawn = f"temperature={self.temperature};top_p={self.top_p};seed={self.seed}" if self.samples > 1 else "greedy"
        return (
            f"{self.kind}-{RULES};k={self.k};samples={self.samples};{drawn};complete={self.complete};"
            f"max_new_tokens={self.max_new_tokens};until={','.join(map(repr, self.until))};{self.limits}"
        )

    def check(self, items: Sequence[Item]) -> None:
        """Refuse items without answer or tests, whose answer fails, or whose tests pass behind nothing."""
        answered(self.kind, items)
        bare = [item.id for item in items if not item.tests.strip()]
        if bare:
            raise InputError(
                f"{self.kind}: {len(bare)} of {len(items)} items have no tests: {some(bare)}; "
                "add them, or map the column that holds them (columns: {tests: ...})"
            )
        check_sandbox()
        for response, wanted, rule in (
            (self.gold, True, "answers fail their tests"),
            (self.empty, False, "tests pass without an answer"),
        ):
            passed = self._run([self._program(item, response(item)) for item in items])
            wrong = [item.id for item, found in zip(items, passed, strict=True) if found is not wanted]
            if wrong:
                raise InputError(f"{self.kind}: of {len(items)} items {len(wrong)} {rule}: {some(wrong)}; correct them")

    def room(self, item: Item) -> Room:
        """The tokens that may be written."""
        return Room(new_tokens=self.max_new_tokens, chat=not self.complete)

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """The estimate of pass@k of each item."""
        prompts = [item.prompt for item in items for _ in range(self.samples)]
        keys = tuple(f"{item.id}\x1f{number}" for item in items for number in range(self.samples))
        drawn = Sampling(self.temperature, self.top_p, self.seed, keys) if self.samples > 1 else None
        responses = engine.generate(
            prompts, max_new_tokens=self.max_new_tokens, until=self.until, sampling=drawn, chat=not self.complete
        )
        owners = [item for item in items for _ in range(self.samples)]
        passed = self._run([self._program(item, text) for item, text in zip(owners, responses, strict=True)])
        counts = [sum(passed[start : start + self.samples]) for start in range(0, len(passed), self.samples)]
        return tuple(pass_at_k(self.samples, count, self.k) for count in counts)

    def grade(self, item: Item, response: str) -> float:
        """1 if the program of `response` passes the item's tests."""
        return float(passes(self._program(item, response), self.limits))

    def gold(self, item: Item) -> str:
        """The answer."""
        return item.answer

    def empty(self, item: Item) -> str:
        """No program."""
        return ""

    def _program(self, item: Item, response: str) -> str:
        if self.complete:
            return f"{item.prompt}{response}\n{item.tests}\n"
        fenced = _FENCE.search(response)
        return f"{fenced.group(1) if fenced else response}\n{item.tests}\n"

    def _run(self, programs: Sequence[str]) -> list[bool]:
        # Equal programs (several samples of a sure model) are run once.
        different = tuple(dict.fromkeys(programs))
        passed = dict(zip(different, pass_all(different, self.limits, len(os.sched_getaffinity(0))), strict=True))
        return [passed[program] for program in programs]


def pass_at_k(n: int, passed: int, k: int) -> float:
    """1 - C(n - passed, k) / C(n, k): the unbiased estimate of the chance that one of k tries passes."""
    return 1.0 - math.comb(n - passed, k) / math.comb(n, k)
