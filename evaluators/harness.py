"""Harness: any task of EleutherAI's lm-eval, by its public API, on the live model; its metric gives the direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

from ._checks import whole
from ._errors import InputError, some
from ._schema import LOCAL
from ._types import SPLITS, Evaluator, Item, Room

if TYPE_CHECKING:
    from ._engine import Engine

RULES = 1
"""Raise when the same responses would get other values."""


def harness(
    *,
    tasks: Mapping[str, str],
    metric: str = "acc",
    filter: str = "none",
    include: Annotated[str, LOCAL] | None = None,
    chat: bool = False,
    num_fewshot: int | None = None,
) -> Evaluator:
    """Mean over documents of one of lm-eval's per-document metrics, from 0 to 1.

    The evaluator brings its items: the documents of the tasks' evaluation split. lm-eval builds the prompts and grades;
    the live model answers through the engine, whatever engine that is. Nothing is taken from lm-eval's cache of
    responses, whose keys do not know the weights, and nothing is downloaded: a task whose data are not on this machine
    is refused.

    Args:
        tasks: name of a task or group -> the language of its documents, as the recipe lists it.
        metric: of each document, such as acc, acc_norm or exact_match. Metrics of a whole corpus (bleu, perplexity) say
            nothing of a document and are refused.
        filter: name of the task's filter, such as strict-match.
        include: folder of task files of your own; lm-eval's own tasks are then not looked through.
        chat: whether prompts go through the chat template.
        num_fewshot: examples before each question; the task's own number if left out.

    Raises:
        InputError: a value out of range, or lm-eval is not installed.
    """
    if (
        not isinstance(tasks, Mapping)
        or not tasks
        or not all(isinstance(text, str) for pair in tasks.items() for text in pair)
    ):
        raise InputError(f"harness: tasks must name at least one task and its language ({{task: en}}), got {tasks!r}")
    if num_fewshot is not None:
        whole("harness", "num_fewshot", num_fewshot, low=0)
    listed = tuple((str(task), str(language)) for task, language in tasks.items())
    return Harness(listed, str(metric), str(filter), include, bool(chat), num_fewshot)


@dataclass(frozen=True)
class Harness:
    """See `harness`. `tasks`: (name, language) pairs."""

    tasks: tuple[tuple[str, str], ...]
    metric: str
    filter: str
    include: str | None
    chat: bool
    num_fewshot: int | None
    kind: str = "harness"

    @property
    def version(self) -> str:
        """The rules, lm-eval's release and what changes values; the documents are items, which are hashed."""
        from importlib.metadata import version

        names = ",".join(f"{task}:{language}" for task, language in self.tasks)
        return (
            f"{self.kind}-{RULES};lm-eval={version('lm-eval')};tasks={names};metric={self.metric};"
            f"filter={self.filter};chat={self.chat};num_fewshot={self.num_fewshot}"
        )

    def items(self, languages: Sequence[str]) -> tuple[Item, ...]:
        """The documents: prompt and answer as lm-eval writes them, groups of one, split by a hash of the content."""
        from ._lm_eval import documents

        foreign = [f"{task} ({language})" for task, language in self.tasks if language not in languages]
        if foreign:
            raise InputError(
                f"harness: tasks in a language that the recipe does not list: {some(foreign)}; "
                f"listed: {', '.join(languages)}"
            )
        found = []
        for name, language in self.tasks:
            for task, number, prompt, answer in documents((name,), self.include, self.num_fewshot):
                # By content: a task that grows or is put in another order moves no document to the other split.
                half = SPLITS[sha256(f"{task}\x1f{prompt}\x1f{answer}".encode()).digest()[0] & 1]
                key = f"{task}/{number}"
                found.append(Item(key, prompt, answer, language, key, task, half))
        return tuple(found)

    def check(self, items: Sequence[Item]) -> None:
        """Refuse metrics and filters that the tasks do not have, and prompts that depend on other documents."""
        from ._lm_eval import check_tasks

        check_tasks(tuple(task for task, _ in self.tasks), self.include, self.num_fewshot, self.metric, self.filter)

    def room(self, item: Item) -> Room:
        """What the task generates, or the answer of a task of likelihoods; without its examples, which lm-eval adds."""
        from ._lm_eval import new_tokens

        return Room(new_tokens=new_tokens(item.task, self.include, self.num_fewshot), chat=self.chat)

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """lm-eval's metric of each document."""
        if not items:
            return ()
        from ._lm_eval import evaluate

        wanted: dict[str, list[int]] = {}
        for item in items:
            wanted.setdefault(item.task, []).append(int(item.id.rpartition("/")[2]))
        names = tuple(task for task, _ in self.tasks)
        found = evaluate(engine, names, self.include, self.num_fewshot, wanted, self.metric, self.filter, self.chat)
        return tuple(self.grade(item, repr(found[item.id])) for item in items)

    def grade(self, item: Item, response: str) -> float:
        """The metric's value, `response`, if it is a number from 0 to 1."""
        value = float(response)
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise ValueError(f"harness: {self.metric} of {item.id} is {response}, but scores lie between 0 and 1")
        return value

    def gold(self, item: Item) -> str:
        """The largest value."""
        return "1.0"

    def empty(self, item: Item) -> str:
        """The smallest value."""
        return "0.0"
