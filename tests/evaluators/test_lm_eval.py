"""The same checkpoint on the same task: lm-eval with its own Hugging Face model, and this package, item by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluators._errors import InputError
from evaluators._lm_eval import _offline, _quiet
from evaluators._transformers import TransformersEngine, transformers_engine
from evaluators._types import Evaluator, Item
from evaluators.choice_loglikelihood import choice_loglikelihood
from evaluators.exact_match import exact_match
from evaluators.harness import harness
from evaluators.perplexity import perplexity

from . import samples

Rows = dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.task_folder(tmp_path_factory.mktemp("tasks") / "tasks")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return transformers_engine(str(samples.DEMO), dtype="float32", device="cpu", batch_tokens=300)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> dict[tuple[str, bool], Rows]:
    """(task, chat) -> document -> lm-eval's own metrics."""
    import lm_eval
    import transformers
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer = transformers.AutoTokenizer.from_pretrained(samples.DEMO)
    model = transformers.AutoModelForCausalLM.from_pretrained(samples.DEMO, dtype="float32").eval()
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = {}
    with _offline(), _quiet():
        live = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=64, device="cpu")
        for chat in (True, False):
            tasks = manager.load(["demo_choose", "demo_spaced", "demo_write"])
            results = lm_eval.evaluate(
                lm=live, task_dict=tasks, bootstrap_iters=0, log_samples=True, apply_chat_template=chat
            )
            for name, rows in results["samples"].items():
                found[name, chat] = {row["doc_id"]: row for row in rows}
    return found


def rows(folder: Path) -> list[Item]:
    """The documents of the tasks as items of our own kinds."""
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Item(str(number), row["q"], row["a"], "en", str(number), "", "search", tuple(row["choices"]))
        for number, row in enumerate(map(json.loads, lines))
    ]


def agree(ours: tuple[float, ...], theirs: Rows, metric: str) -> None:
    assert list(ours) == [float(theirs[number][metric]) for number in range(len(ours))]
    assert 0 < sum(ours) < len(ours), "all right or all wrong: the comparison tests nothing"


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    ("task", "metric"), [("demo_choose", "acc"), ("demo_choose", "acc_norm"), ("demo_write", "exact_match")]
)
def test_harness_on_the_live_model_gives_lm_evals_own_values(
    folder: Path, engine: TransformersEngine, theirs: dict[tuple[str, bool], Rows], task: str, metric: str, chat: bool
) -> None:
    if task == "demo_write" and not chat:
        pytest.skip("without its template the model writes nothing right: the comparison would test nothing")
    kind = harness(tasks={task: "en"}, metric=metric, include=str(folder), chat=chat)
    items = kind.items(("en",))  # type: ignore[attr-defined]  # of kinds that bring items only
    kind.check(items)
    agree(kind.score(engine, items), theirs[task, chat], metric)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(("normalise", "metric"), [("none", "acc"), ("characters", "acc_norm")])
def test_choice_loglikelihood_agrees_item_by_item_and_likelihood_by_likelihood(
    folder: Path,
    engine: TransformersEngine,
    theirs: dict[tuple[str, bool], Rows],
    chat: bool,
    normalise: Any,
    metric: str,
) -> None:
    # The space before an answer is the template's here and the choice's there; without a template it is a delimiter.
    kind = choice_loglikelihood(normalise=normalise, chat=chat, delimiter="" if chat else " ")
    values = theirs["demo_spaced" if chat else "demo_choose", chat]
    if metric == "acc" or not chat:  # acc_norm counts that space
        agree(kind.score(engine, rows(folder)), values, metric)
    found = [[value for value, _ in values[number]["filtered_resps"]] for number in values]
    for row, theirs_of_row in zip(rows(folder), found, strict=True):
        texts = [kind.delimiter + choice for choice in row.choices]  # type: ignore[attr-defined]
        ours = engine.loglikelihood([row.prompt] * 3, texts, chat=chat)
        assert [one.logprob for one in ours] == pytest.approx(theirs_of_row, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("mode", ["generate", "teacher_forced"])
def test_exact_match_agrees_item_by_item(
    folder: Path, engine: TransformersEngine, theirs: dict[tuple[str, bool], Rows], mode: Any
) -> None:
    kind = exact_match(mode=mode, max_new_tokens=12)
    values = kind.score(engine, rows(folder))
    agree(values, theirs["demo_write", True], "exact_match")


def test_perplexity_is_the_exponential_of_the_likelihood(engine: TransformersEngine) -> None:
    item = samples.items()[0]
    (one,) = engine.loglikelihood([item.prompt], [item.answer])
    kind = perplexity()
    assert kind.score(engine, [item])[0] == pytest.approx(2.718281828459045 ** (one.logprob / one.tokens), rel=1e-6)
    bare = Item("t", item.prompt, "", "en", "t", "", "search")
    (whole,) = engine.loglikelihood([""], [item.prompt], chat=False)
    assert kind.score(engine, [bare])[0] == pytest.approx(2.718281828459045 ** (whole.logprob / whole.tokens), rel=1e-6)


def test_few_documents_score_as_in_the_whole_task(folder: Path, engine: TransformersEngine) -> None:
    kind = harness(tasks={"demo_choose": "en"}, include=str(folder), chat=True)
    items = kind.items(("en",))  # type: ignore[attr-defined]
    whole = kind.score(engine, items)
    assert kind.score(engine, items[20:3:-4]) == whole[20:3:-4]


def refused(folder: Path, lines: str, says: str, **options: Any) -> None:
    source = (
        f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\ntest_split: test\n"
    )
    own = folder / "own"
    own.mkdir(exist_ok=True)
    (own / "t.yaml").write_text(f"task: t\n{source}doc_to_text: '{{{{q}}}}'\n{lines}", encoding="utf-8")
    from evaluators import _lm_eval

    _lm_eval._load.cache_clear()
    _lm_eval._manager.cache_clear()
    kind: Evaluator = harness(tasks={"t": "en"}, include=str(own), **options)
    with pytest.raises(InputError, match=says):
        kind.check(kind.items(("en",)))  # type: ignore[attr-defined]


CHOICES = "output_type: multiple_choice\ndoc_to_target: gold\ndoc_to_choice: '{{choices}}'\n"


def test_what_cannot_be_scored_is_refused_before(folder: Path) -> None:
    acc = "metric_list: [{metric: acc}]\n"
    refused(folder, CHOICES + acc, "t has no metric 'f1'; it has acc", metric="f1")
    refused(folder, CHOICES + acc, "t has no filter 'strict'; it has none", filter="strict")
    refused(
        folder, f"{CHOICES}{acc}fewshot_split: test\nnum_fewshot: 2\n", "draws its 2 examples anew for every document"
    )
    refused(
        folder, f"{CHOICES}{acc}dataset_path: nobody/nothing\n".replace("json", "x"), "cannot be loaded without network"
    )
    written = "output_type: generate_until\ndoc_to_target: '{{a}}'\n"
    refused(
        folder, f"{written}metric_list: [{{metric: bleu}}]\n", "bleu of t is a number of a whole corpus", metric="bleu"
    )


def test_unknown_tasks_and_languages_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match="no task 'demo_chose'; did you mean 'demo_choose'"):
        harness(tasks={"demo_chose": "en"}, include=str(folder)).items(("en",))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"does not list: demo_choose \(sw\); listed: en, hi"):
        harness(tasks={"demo_choose": "sw"}, include=str(folder)).items(("en", "hi"))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="tasks must name at least one task"):
        harness(tasks={})
