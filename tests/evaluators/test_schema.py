from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from evaluators._errors import InputError
from evaluators._schema import build, kind_names, load_kind, options_of
from evaluators._types import Score


def test_kinds_are_the_files_without_underscore() -> None:
    assert kind_names() == (
        "bleu",
        "choice_loglikelihood",
        "chrf",
        "classifier",
        "code_pass_at_k",
        "exact_match",
        "harness",
        "judge_harm",
        "judge_winrate",
        "output_language",
        "perplexity",
        "refusal",
    )


def test_listing_and_building_load_no_torch() -> None:
    code = (
        "import sys; from evaluators import _schema, _items, _stats; _schema.build('refusal', {}).version; "
        "_schema.build('exact_match', {}); [_schema.load_kind(name) for name in _schema.kind_names()]; "
        "print(*{'torch', 'transformers', 'datasets', 'ray'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == ""


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("exact_macth", {}, "no evaluator 'exact_macth' (did you mean 'exact_match'?); there are bleu, "),
        ("_stats", {}, "no evaluator '_stats'"),
        ("refusal", {"marker": {}}, "refusal has no option 'marker' (did you mean 'markers'?); its options: max_new"),
        ("exact_match", {"mode": "fast"}, "exact_match: unknown mode 'fast'; choose teacher_forced or generate"),
        ("no_such_module:thing", {}, "evaluator no_such_module:thing: no module 'no_such_module'"),
        ("evaluators.refusal:nothing", {}, "evaluators.refusal has no function 'nothing'"),
    ],
)
def test_bad_names_and_options(kind: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(InputError) as caught:
        build(kind, options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_outside_is_named_by_module_and_function() -> None:
    assert load_kind("evaluators.refusal:refusal") is load_kind("refusal")


def test_options_come_from_the_signature() -> None:
    found = {option.name: option for option in options_of(load_kind("exact_match"))}
    assert list(found) == ["mode", "max_new_tokens", "script"]
    assert found["max_new_tokens"].annotation is int
    assert found["max_new_tokens"].default == 32


def test_errors_pickle() -> None:
    copy = pickle.loads(pickle.dumps(InputError("text")))
    assert (str(copy), copy.exit_status) == ("text", 2)


@pytest.mark.parametrize(("value", "stderr", "n"), [(float("nan"), 0, 1), (0, float("inf"), 1), (0, -1, 1), (0, 0, 0)])
def test_a_score_is_finite_and_has_items(value: float, stderr: float, n: int) -> None:
    with pytest.raises(ValueError, match="a score"):
        Score(value, stderr, n)
