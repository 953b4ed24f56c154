import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search._recipe.matrix import expand
from search._recipe.yaml_text import parse

WORDS = st.text("abcdefgh", min_size=1, max_size=4)
AXES = st.dictionaries(
    st.sampled_from(["objective", "language", "size"]), st.lists(WORDS, min_size=1, max_size=4, unique=True), min_size=1
)


def document(entries: dict[str, Any]) -> Any:
    return parse(json.dumps({"experts": entries}, indent=1))


@given(AXES)
def test_one_expert_for_each_combination_in_order(axes: dict[str, list[str]]) -> None:
    pattern = "+".join(f"{{{axis}}}" for axis in axes)
    first = next(iter(axes))
    entry = {"matrix": axes, "mix": {f"{{{first}}}": 1.0}, "languages": [f"x-{{{first}}}"], "steps": 7}
    expanded = expand(document({"before": {"steps": 1}, pattern: entry, "after": {"path": "{x}"}}), "experts")
    combinations = list(itertools.product(*axes.values()))
    assert not expanded.problems
    assert list(expanded.value) == ["before", *("+".join(c) for c in combinations), "after"]
    for combination in combinations:
        name = "+".join(combination)
        assert expanded.value[name] == {
            "mix": {combination[0]: 1.0},
            "languages": [f"x-{combination[0]}"],
            "steps": 7,
        }
        assert expanded.origin["experts", name, "mix", combination[0]] == ("experts", pattern, "mix", f"{{{first}}}")
        assert expanded.origin["experts", name, "languages", 0] == ("experts", pattern, "languages", 0)


def test_a_lone_placeholder_keeps_the_type_of_its_value() -> None:
    entry = {"matrix": {"steps": [10, 20], "rate": [1e-4]}, "steps": "{steps}", "learning_rate": "{rate}"}
    expanded = expand(document({"s{steps}-{rate}": entry}), "experts")
    assert expanded.value["s10-0.0001"] == {"steps": 10, "learning_rate": 1e-4}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            "'{a}-{b}': {matrix: {a: [x]}}",
            "experts.{a}-{b}: unknown placeholder {b}; choose from a",
        ),
        (
            "'{lang}': {matrix: {lang: [en]}, mix: {'{langs}': 1}}",
            "experts.{lang}.mix.{langs}: unknown placeholder {langs}; did you mean 'lang'?",
        ),
        (
            "fr: {matrix: {a: [x, y]}}",
            "experts.fr.matrix.a: the name does not hold {a}, so names would repeat; add {a} to it",
        ),
        ("'{a}': {matrix: {a: []}}", "experts.{a}.matrix.a: must be a list of values, got []; write a: [a, b]"),
        ("'{a}': {matrix: {a: en}}", "experts.{a}.matrix.a: must be a list of values, got 'en'; write a: [a, b]"),
        (
            "'{a}': {matrix: {a: [en, no]}}",
            'experts.{a}.matrix.a[1]: must be text or a number, got false; quote it: "no"',
        ),
        ("'{a}': {matrix: {a: [en, en]}}", "experts.{a}.matrix.a[1]: is listed twice, got 'en'; keep one"),
        (
            "'{a}': {matrix: [en]}",
            "experts.{a}.matrix: must map each placeholder to its values, got ['en']; "
            "write matrix: {language: [en, fr]}",
        ),
        (
            "'{a}{b}': {matrix: {a: [x, xy], b: [yz, z]}}",
            "experts.{a}{b}: makes 'xyz', which experts.{a}{b} makes too; change one of the names",
        ),
        (
            "{xy: {path: p}, 'x{a}': {matrix: {a: [y]}}}",
            "experts.x{a}: makes 'xy', which experts.xy makes too; change one of the names",
        ),
        (
            "'{a}{b}': {matrix: {a: ["
            + ", ".join(map(str, range(40)))
            + "], b: ["
            + ", ".join(map(str, range(40)))
            + "]}}",
            "experts.{a}{b}.matrix: makes 1600 entries, more than 1000; shorten an axis",
        ),
    ],
)
def test_matrices_that_are_refused(entries: str, message: str) -> None:
    body = entries if entries.startswith("{") else f"{{{entries}}}"
    expanded = expand(parse(f"name: x\nexperts: {body}", "r.yaml"), "experts")
    assert [str(problem) for problem in expanded.problems] == [f"r.yaml:2: {message}"]
