"""lm-eval's tasks on an engine: its model interface, and its tasks loaded once and offline."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._errors import InputError, some

if TYPE_CHECKING:
    from ._engine import Engine

Names = tuple[str, ...]
MAX_NEW_TOKENS = 256  # of tasks that say nothing: lm-eval's own number


def documents(names: Names, include: str | None, num_fewshot: int | None) -> Iterator[tuple[str, int, str, str]]:
    """(task, number, prompt without examples, answer) of every document that the tasks evaluate.

    Raises:
        InputError: unknown tasks, or data that are not on this machine.
    """
    for name, task in _tasks(names, include, num_fewshot).items():
        for number, doc in enumerate(task.eval_docs):
            yield name, number, str(task.doc_to_text(doc)), _text(task.doc_to_target(doc))


def check_tasks(names: Names, include: str | None, num_fewshot: int | None, metric: str, filter_name: str) -> None:
    """See `Harness.check`."""
    for name, task in _tasks(names, include, num_fewshot).items():
        metrics = tuple(task.aggregation())
        if metric not in metrics:
            raise InputError(f"harness: {name} has no metric {metric!r}; it has {', '.join(metrics)}")
        filters = tuple(ensemble.name for ensemble in getattr(task, "_filters", ()))
        if filters and filter_name not in filters:
            raise InputError(f"harness: {name} has no filter {filter_name!r}; it has {', '.join(filters)}")
        if task.aggregation()[metric].__name__ not in ("mean", "nanmean"):
            raise InputError(f"harness: {metric} of {name} is a number of a whole corpus, not of documents")
        sampler = type(getattr(task, "sampler", None)).__name__
        if task.config.num_fewshot and sampler != "FirstNSampler":
            raise InputError(
                f"harness: {name} draws its {task.config.num_fewshot} examples anew for every document, so a prompt "
                "would depend on which documents are scored; use a task with fewshot_config: {sampler: first_n}, or "
                "num_fewshot: 0"
            )
        if getattr(task, "UNSAFE_CODE", False):
            raise InputError(f"harness: {name} runs generated code; use code_pass_at_k, which limits what it can do")


def new_tokens(name: str, include: str | None, num_fewshot: int | None) -> int:
    """Most tokens that a task generates; 0 for tasks of likelihoods."""
    task = _task(name, include, num_fewshot)
    if task.OUTPUT_TYPE != "generate_until":
        return 0
    return int((task.config.generation_kwargs or {}).get("max_gen_toks", MAX_NEW_TOKENS))


def evaluate(
    engine: Engine,
    names: Names,
    include: str | None,
    num_fewshot: int | None,
    wanted: Mapping[str, Sequence[int]],
    metric: str,
    filter_name: str,
    chat: bool,
) -> dict[str, float]:
    """`task/number` -> metric, of the wanted documents."""
    import lm_eval

    with _offline(), _quiet():
        loaded = {name: _tasks_of(names, include, num_fewshot)[name] for name in wanted}
        results = lm_eval.evaluate(
            lm=_model(engine),
            task_dict={"tasks": loaded, "groups": {}, "group_map": {}},
            samples={name: sorted(set(numbers)) for name, numbers in wanted.items()},
            bootstrap_iters=0,
            log_samples=True,
            cache_requests=False,
            apply_chat_template=chat,
        )
    found = {}
    for name, rows in results["samples"].items():
        for row in rows:
            if row["filter"] == filter_name:
                found[f"{name}/{row['doc_id']}"] = float(row[metric])
    return found


def _model(engine: Engine) -> Any:
    """The engine as lm-eval's model."""
    from lm_eval.api.model import LM

    class Live(LM):  # type: ignore[misc]  # lm-eval ships no types
        """lm-eval's three questions, asked of an engine. Its hook for a cache of responses is never called."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            pairs = [_seam(*request.args) for request in requests]
            found = engine.loglikelihood([head for head, _ in pairs], [tail for _, tail in pairs], chat=False)
            return [(likelihood.logprob, likelihood.greedy) for likelihood in found]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            texts = [request.args[0] for request in requests]
            return [found.logprob for found in engine.loglikelihood([""] * len(texts), texts, chat=False)]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            responses = [""] * len(requests)
            batches: dict[tuple[int, Names], list[int]] = {}
            for row, request in enumerate(requests):
                batches.setdefault(_wishes(request.args[1]), []).append(row)
            for (limit, until), rows in batches.items():
                prompts = [requests[row].args[0] for row in rows]
                texts = engine.generate(prompts, max_new_tokens=limit, until=until, chat=False)
                for row, text in zip(rows, texts, strict=True):
                    responses[row] = text
            return responses

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            return engine.render(chat_history, more=add_generation_prompt)

        @property
        def tokenizer_name(self) -> str:
            return ""

    return Live()


def _seam(context: str, continuation: str) -> tuple[str, str]:
    """White space at the end of a context belongs to the continuation (lm-eval's `_encode_pair`)."""
    head = context.rstrip()
    return head, context[len(head) :] + continuation


def _wishes(settings: Mapping[str, Any]) -> tuple[int, Names]:
    until = settings.get("until") or ()
    if settings.get("do_sample") or settings.get("temperature"):
        raise InputError("harness: this task draws its responses; only greedy ones are comparable between candidates")
    limit = int(settings.get("max_gen_toks", settings.get("max_new_tokens", MAX_NEW_TOKENS)))
    return limit, (until,) if isinstance(until, str) else tuple(text for text in until if text)


def _task(name: str, include: str | None, num_fewshot: int | None) -> Any:
    return _tasks_of((name,), include, num_fewshot)[name]


def _tasks(names: Names, include: str | None, num_fewshot: int | None) -> dict[str, Any]:
    with _offline(), _quiet():
        return _tasks_of(names, include, num_fewshot)


def _tasks_of(names: Names, include: str | None, num_fewshot: int | None) -> dict[str, Any]:
    """Task -> lm-eval's object, groups taken apart."""
    return {task: found for name in names for task, found in _load(name, include, num_fewshot).items()}


@lru_cache(maxsize=64)
def _load(name: str, include: str | None, num_fewshot: int | None) -> dict[str, Any]:
    manager = _manager(include)
    if name not in manager.all_tasks:
        import difflib

        near = difflib.get_close_matches(name, manager.all_tasks, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {some(sorted(manager.all_tasks), 5) or 'none'}"
        raise InputError(f"harness: no task {name!r}; {hint}")
    try:
        found: dict[str, Any] = dict(manager.load([name])["tasks"])
    except Exception as error:  # whatever `datasets`, the hub and a task's own code raise: all mean this
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"harness: task {name!r} cannot be loaded without network: {cause}; run it once where there is network, so "
            "that its data are in the cache of `datasets`"
        ) from error
    for task in found.values():
        if num_fewshot is not None:
            task.set_config(key="num_fewshot", value=num_fewshot)
        if task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=0)
    return found


@lru_cache(maxsize=4)
def _manager(include: str | None) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise InputError("harness: lm-eval is not installed; pip install 'mergefront[harness]'") from None
    return TaskManager(include_path=include, include_defaults=include is None)


@contextmanager
def _offline() -> Iterator[None]:
    """No library asks the hub while this lasts: a task that needs network fails at once."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval reports every step at level INFO and by progress bars, which belong to this program's display."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _text(target: Any) -> str:
    return target if isinstance(target, str) else repr(target)
