"""YAML as recipes need it: line numbers for every key, no duplicate keys, and no surprises from YAML 1.1.

PyYAML's safe loader reads `1e-3` as text, `12:30` as 750, `010` as 8, `2026-01-02` as a date, and keeps the last of two
equal keys without a word. Here numbers are what people mean by them, everything else that is not plainly a number, a
boolean or null is text, and a file that says the same thing twice is refused. `no`, `yes`, `on` and `off` stay
booleans, as in YAML 1.1, but their spelling is remembered so that a message can name the cure (`"no"` is also a
language code).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from search.errors import Problem, UserError, dotted, shown

KeyPath = tuple[str | int, ...]

MAX_BYTES = 2**20  # a recipe is a page of text
MAX_VALUES = 100_000  # counted after aliases are expanded, so nested aliases cannot fill the memory
MAX_DEPTH = 50

_MERGE = "tag:yaml.org,2002:merge"

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_TRUE = ("true", "yes", "on")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        file: the name for messages, as the user gave it.
        value: nested dicts, lists, str, int, float, bool, None.
        lines: line (from 1) of each key or list item, by its path.
        spelled: how each plain (unquoted) scalar was written, by its path; keys of mappings are not included.
        shared: path of a key that a merge (`<<: *shared`) brought in -> the path where it is written.
    """

    file: str
    value: dict[str, Any]
    lines: dict[KeyPath, int] = field(repr=False)
    spelled: dict[KeyPath, str] = field(repr=False)
    shared: dict[KeyPath, KeyPath] = field(repr=False)

    def line(self, path: KeyPath) -> int | None:
        """Line of `path`, or of its nearest ancestor that is in the file; None if not even that."""
        return next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)


class _RefusedError(yaml.YAMLError):
    """Valid YAML that a recipe must not hold."""

    def __init__(self, event: yaml.Event, rule: str, value: str | None = None, remedy: str = ""):
        super().__init__(rule)
        assert event.start_mark is not None, event
        self.line = event.start_mark.line + 1
        self.rule, self.value, self.remedy = rule, value, remedy


class _Composer(yaml.SafeLoader):
    """PyYAML's parser with a bound on nesting, so that a hostile file cannot exhaust the stack."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _RefusedError(event, f"must not nest deeper than {MAX_DEPTH}")
        tag = getattr(event, "tag", None)
        if tag is not None:  # a recipe has no use for typed values, and python/object tags are an attack
            raise _RefusedError(event, "tags are not allowed", shown(tag), "remove the tag (!)")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read(path: str | Path) -> Document:
    """Parse the file at `path`.

    Raises:
        UserError: not readable, not UTF-8, not YAML, empty, not a mapping, duplicate keys, or too large.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(Problem(name, None, "", "no such file", remedy="check the path")) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        cause = getattr(error, "strerror", None) or str(error)
        raise UserError(Problem(name, None, "", f"cannot be read ({cause})")) from None
    if len(data) > MAX_BYTES:
        raise UserError(
            Problem(name, None, "", f"is larger than {MAX_BYTES // 2**20} MiB", remedy="a recipe is a page")
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        value = f"byte 0x{data[error.start]:02x}"
        raise UserError(Problem(name, line, "", "must be UTF-8 text", value, "save the file as UTF-8")) from None
    return parse(text, name)


def parse(text: str, file: str = "recipe.yaml") -> Document:
    """Parse YAML text; `file` is its name for messages. Raises UserError as `read` does."""
    try:
        loader = _Composer(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UserError(_syntax_problem(error, text, file)) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.style and _NULL.fullmatch(node.value)):
        raise UserError(Problem(file, None, "", "the file is empty", remedy="see examples/ for recipes"))
    builder = _Builder(file)
    value = builder.build(node, ())
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else shown(value)
        builder.refuse(node, (), "must be a mapping of keys to values", kind, "start with `name: my-run`")
    if builder.problems:
        raise UserError(builder.problems)
    return Document(file, value, builder.lines, builder.spelled, builder.shared)


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """PyYAML's many-line message as one line, with a cure for the usual slips."""
    if isinstance(error, _RefusedError):
        return Problem(file, error.line, "", error.rule, error.value, error.remedy)
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        value = f"U+{error.character:04X}" if isinstance(error.character, int) else shown(error.character)
        return Problem(file, line, "", "holds a character that YAML does not allow", value, "remove it")
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    at = None if mark is None else min(mark.line, text.count("\n")) + 1
    written = text.split("\n")[at - 1] if at is not None else ""
    if "\\t" in what:
        return Problem(file, at, "", "tabs cannot indent YAML", remedy="use spaces")
    if "expected a single document" in (getattr(error, "context", None) or ""):
        return Problem(file, at, "", "must hold one YAML document", remedy="remove the second `---`")
    remedy = "check indentation, colons and brackets"
    if "#" in "\n".join(text.split("\n")[max(0, (at or 1) - 3) : at]):
        remedy += '; a # after a space starts a comment: quote it ("#12")'
    elif re.search(r":\s+[{%@`*&!|>]", written) or "mapping values are not allowed" in what:
        remedy += "; quote text that holds special characters"
    return Problem(file, at, "", f"is not YAML: {what}", remedy=remedy)


class _Builder:
    """Turns nodes into values, noting lines and collecting problems (so that all are reported at once)."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {}
        self.spelled: dict[KeyPath, str] = {}
        self.shared: dict[KeyPath, KeyPath] = {}
        self._first: dict[int, KeyPath] = {}  # node -> where it was first built
        self._count = 0
        self._open: list[yaml.Node] = []  # containers being built, to notice one that contains itself

    def refuse(self, node: yaml.Node, path: KeyPath, rule: str, value: str | None = None, remedy: str = "") -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(self.file, line, dotted(path), rule, value, remedy))

    def _abort(self, node: yaml.Node, path: KeyPath, rule: str, remedy: str = "") -> NoReturn:
        self.refuse(node, path, rule, remedy=remedy)
        raise UserError(self.problems)

    def _tick(self, node: yaml.Node, path: KeyPath) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            self._abort(node, path, f"expands to more than {MAX_VALUES} values", "remove nested aliases")

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._tick(node, path)
        self._first.setdefault(id(node), path)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if any(node is outer for outer in self._open):
            self._abort(node, path, "an alias (*) must not contain itself")
        self._open.append(node)
        value: Any
        if isinstance(node, yaml.SequenceNode):
            value = []
            for i, item in enumerate(node.value):
                self.lines[*path, i] = item.start_mark.line + 1
                value.append(self.build(item, (*path, i)))
        else:
            assert isinstance(node, yaml.MappingNode)
            value = self._mapping(node, path)
        self._open.pop()
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        value: dict[str, Any] = {}
        own: dict[Hashable, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                merged.extend(value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node])
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in own:
                rule = f"duplicate key: already set on line {own[key]}, again on line {line}"
                self.refuse(key_node, (*path, key), rule, remedy="keep one of the two")
                continue
            own[key] = line
            self.lines[*path, key] = line
            value[key] = self.build(value_node, (*path, key))
        for key_node, value_node in self._inherited(merged, path):
            key = self._key(key_node, path)
            if key is None or key in value:  # what the mapping says itself wins, then the first of several
                continue
            self.lines[*path, key] = key_node.start_mark.line + 1
            self.shared[*path, key] = self._first.get(id(value_node), (*path, key))
            value[key] = self.build(value_node, (*path, key))
        return value

    def _inherited(self, nodes: list[yaml.Node], path: KeyPath) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Keys and values that `<<: *shared` brings in, nearest first."""
        for node in nodes:
            if not isinstance(node, yaml.MappingNode):
                self.refuse(node, path, "`<<` merges mappings only")
                continue
            if any(node is outer for outer in self._open):
                self._abort(node, path, "an alias (*) must not contain itself")
            further: list[yaml.Node] = []
            for key_node, value_node in node.value:
                self._tick(node, path)
                if key_node.tag == _MERGE:
                    further.extend(value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node])
                else:
                    yield key_node, value_node
            self._open.append(node)
            yield from self._inherited(further, path)
            self._open.pop()

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, path, "a key must be text", remedy="write `key: value`")
            return None
        key = self._scalar(node, path, note=False)
        if isinstance(key, str):
            return key
        meaning = "" if isinstance(key, (int, float)) and not isinstance(key, bool) else f" (YAML reads {shown(key)})"
        self.refuse(node, path, "a key must be text", f"{node.value}{meaning}", f'quote it: "{node.value}"')
        return None

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath, *, note: bool = True) -> Any:
        text = node.value
        if _UNPRINTABLE.search(text):
            self.refuse(node, path, "text must not hold control characters", ascii(text)[:60], "remove them")
        if node.style is not None:  # quoted
            return text
        if note:
            self.spelled[path] = text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() in _TRUE
        if _INT.fullmatch(text) and len(text) < 40:
            return int(text.replace("_", ""))
        if _FLOAT.fullmatch(text) and not _LEADING_ZERO.fullmatch(text):
            return float(re.sub(r"_|\.(?=[inIN])", "", text))
        return text
