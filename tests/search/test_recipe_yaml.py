import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search._recipe import yaml_text
from search._recipe.yaml_text import KeyPath, parse, read
from search.errors import UserError

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029\ufeff\x85")
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
MAPPINGS = st.dictionaries(TEXT, TREES, min_size=1, max_size=5)


def problem_of(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert len(caught.value.problems) == 1
    return str(caught.value)


@given(MAPPINGS)
def test_every_json_document_reads_back_as_itself(value: dict[str, Any]) -> None:
    assert parse(json.dumps(value, ensure_ascii=False)).value == value


def written(value: Any, path: KeyPath, lines: list[str], expected: dict[KeyPath, int], indent: int) -> None:
    """Write block YAML one key or item to a line, noting the line of each."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        start = " " * indent + (f"{json.dumps(key, ensure_ascii=False)}:" if isinstance(value, dict) else "-")
        nested = isinstance(item, (dict, list)) and item
        lines.append(start if nested else f"{start} {json.dumps(item, ensure_ascii=False)}")
        below = (*path, key)
        # The line of a list item is where its content starts: for a nested one, the line after the dash.
        expected[below] = len(lines) + (1 if nested and isinstance(value, list) else 0)
        if nested:
            written(item, below, lines, expected, indent + 2)


@given(MAPPINGS)
def test_every_key_and_item_knows_its_line(value: dict[str, Any]) -> None:
    lines: list[str] = []
    expected: dict[KeyPath, int] = {}
    written(value, (), lines, expected, 0)
    document = parse("\n".join(lines))
    assert document.value == value
    assert document.lines == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("1.0e-6", 1e-6),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("1_000", 1000),
        ("-7", -7),
        ("12:30", "12:30"),  # YAML 1.1: 750
        ("010", "010"),  # YAML 1.1: 8
        ("0.10", 0.1),
        ("0x1F", "0x1F"),
        ("2026-01-02", "2026-01-02"),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ('"no"', "no"),
        ("'1e-3'", "1e-3"),
        ("nothing", "nothing"),
        ("1e3x", "1e3x"),
        ("-", None),
    ],
)
def test_plain_scalars_mean_what_people_mean(text: str, value: Any) -> None:
    if text == "-":
        assert parse("a:\n  -").value == {"a": [None]}
    else:
        found = parse(f"a: {text}").value["a"]
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "r.yaml:3: a: duplicate key: already set on line 1, again on line 3; keep one of the two"),
        (
            "e:\n  x: {y: 1, y: 2}",
            "r.yaml:2: e.x.y: duplicate key: already set on line 2, again on line 2; keep one of the two",
        ),
        ("a:\n\tb: 1", "r.yaml:2: tabs cannot indent YAML; use spaces"),
        ("- 1", "r.yaml:1: must be a mapping of keys to values, got a list; start with `name: my-run`"),
        ("just text", "r.yaml:1: must be a mapping of keys to values, got 'just text'; start with `name: my-run`"),
        ("", "r.yaml: the file is empty; see examples/ for recipes"),
        ("# only a comment\n", "r.yaml: the file is empty; see examples/ for recipes"),
        ("no: 1", 'r.yaml:1: a key must be text, got no (YAML reads false); quote it: "no"'),
        ("a: {7: 1}", 'r.yaml:1: a: a key must be text, got 7; quote it: "7"'),
        ("? [1]\n: 2", "r.yaml:1: a key must be text; write `key: value`"),
        ("a: 1\n---\nb: 2", "r.yaml:2: must hold one YAML document; remove the second `---`"),
        ("x: !!int 5", "r.yaml:1: tags are not allowed, got 'tag:yaml.org,2002:int'; remove the tag (!)"),
        ("\nx: &a [1, *a]", "r.yaml:2: x[1]: an alias (*) must not contain itself"),
        ("x: " + "[" * 60, "r.yaml:1: must not nest deeper than 50"),
        ("x: a\x07b", "r.yaml:1: holds a character that YAML does not allow, got U+0007; remove it"),
        ('x: "\\0"', "r.yaml:1: x: text must not hold control characters, got '\\x00'; remove them"),
        ('x: "\\ud800"', "r.yaml:1: x: text must not hold control characters, got '\\ud800'; remove them"),
        ("x: 1\n<<: 3", "r.yaml:2: `<<` merges mappings only"),
    ],
)
def test_what_is_refused_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text, "r.yaml")
    assert str(caught.value) == message


def test_a_comment_that_was_meant_as_a_number_is_explained() -> None:
    assert 'a # after a space starts a comment: quote it ("#12")' in problem_of("a: [knee, #12]\nb: 1")


def test_python_tags_run_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made"
    assert "tags are not allowed" in problem_of(f"x: !!python/object/apply:os.mkdir ['{target}']")
    assert not target.exists()


def test_nested_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert f"expands to more than {yaml_text.MAX_VALUES} values" in problem_of("\n".join(lines))


def test_all_duplicates_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse("a: 1\na: 2\nb: 1\nb: 2")
    assert [problem.line for problem in caught.value.problems] == [2, 4]


def test_merged_mappings_keep_the_lines_where_things_are_written() -> None:
    document = parse("one: &one\n  steps: 1\n  batch: 2\ntwo:\n  <<: *one\n  batch: 3\n")
    assert document.value["two"] == {"batch": 3, "steps": 1}
    assert document.line(("two", "batch")) == 6
    assert document.line(("two", "steps")) == 2
    assert document.shared == {("two", "steps"): ("one", "steps")}


def test_what_a_mapping_says_itself_hides_all_of_what_it_merges() -> None:
    document = parse(
        "one: &one {mix: {a: 1}, k: 1}\ntwo: &two {<<: *one, k: 2}\nthree: {<<: [*two, *one], mix: {b: 2}}\n"
    )
    assert document.value["three"] == {"mix": {"b": 2}, "k": 2}
    assert ("three", "mix", "a") not in document.lines
    assert document.shared["three", "k"] == ("two", "k")


@pytest.mark.parametrize("text", ["a: &a\n  <<: *a", "a: &a\n  b:\n    <<: *a"])
def test_a_mapping_that_merges_itself_is_refused(text: str) -> None:
    assert "an alias (*) must not contain itself" in problem_of(text)


def test_nested_merges_are_bounded() -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    assert "expands to more than" in problem_of("\n".join(lines))


def test_a_path_that_is_not_in_the_file_has_the_line_of_its_nearest_ancestor() -> None:
    document = parse("a:\n  b: 1\n")
    assert document.line(("a", "c", "d")) == 1
    assert document.line(("z",)) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: \xff\n", ":2: must be UTF-8 text, got byte 0xff; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), ":1: must be UTF-8 text, got byte 0xff; save the file as UTF-8"),
        (b"#" * (yaml_text.MAX_BYTES + 1), ": is larger than 1 MiB; a recipe is a page"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read(file)
    assert str(caught.value) == f"{file}{message}"


def test_files_that_are_not_there_or_directories(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; check the path"):
        read(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(tmp_path / "r.yaml").value == {"a": 1}
