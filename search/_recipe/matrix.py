"""Matrix experts: one entry of the recipe that stands for an expert per combination.

    "{objective}-{language}":
      matrix: {objective: [general, safety], language: [en, fr]}
      mix: {"{objective}": 1.0}
      languages: ["{language}"]

becomes general-en, general-fr, safety-en, safety-fr, in this order (the last axis varies fastest). Placeholders
stand in the name, in keys and in text values; a text that is one placeholder alone takes the value's own type
(`steps: "{steps}"`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search._recipe.yaml_text import Document, KeyPath
from search.errors import Problem, dotted, shown, suggestion

MAX_EXPERTS = 1000
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")

Scalar = str | int | float


@dataclass(frozen=True)
class Expanded:
    """A section after expansion.

    Attributes:
        value: name -> entry, without `matrix` keys, in the recipe's order.
        origin: path in the expanded recipe -> path in the file, for all paths below a matrix entry.
        axes: name -> axis -> value, for entries that a matrix made.
        problems: what is wrong with the matrices themselves.
    """

    value: dict[str, Any]
    origin: dict[KeyPath, KeyPath]
    axes: dict[str, Mapping[str, Scalar]]
    problems: tuple[Problem, ...]


def expand(document: Document, section: str) -> Expanded:
    """Expand every matrix entry of the mapping `section` ("experts" or "baselines") of the recipe."""
    entries = document.value.get(section)
    value: dict[str, Any] = {}
    origin: dict[KeyPath, KeyPath] = {}
    made_of: dict[str, Mapping[str, Scalar]] = {}
    problems: list[Problem] = []
    made_by: dict[str, str] = {}

    def refuse(path: KeyPath, rule: str, given: str | None, remedy: str) -> None:
        problems.append(Problem(document.file, document.line(path), dotted(path), rule, given, remedy))

    for pattern, entry in entries.items() if isinstance(entries, dict) else ():
        at = (section, pattern)
        if not isinstance(entry, dict) or "matrix" not in entry:
            combinations: Iterator[Mapping[str, Scalar]] = iter(({},))
            body = entry
        else:
            axes = entry["matrix"]
            found = _axes_problem(document, axes, (*at, "matrix"), pattern)
            if found is not None:
                problems.append(found)
                continue
            body = {key: item for key, item in entry.items() if key != "matrix"}
            unknown = sorted({(p, name) for p, name in _placeholders(body, at) if name not in axes}, key=str)
            for path, name in unknown:
                refuse(path, f"unknown placeholder {{{name}}}", None, suggestion(name, axes))
            if unknown:
                continue
            combinations = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
        for combination in combinations:
            name = str(_filled(pattern, combination))
            if name in made_by:
                refuse(
                    at,
                    f"makes '{name}', which {section}.{made_by[name]} makes too",
                    None,
                    "change one of the names",
                )
                continue
            made_by[name] = pattern
            value[name] = body if not combination else _substitute(body, combination, (section, name), at, origin)
            if combination:
                origin[section, name] = at
                made_of[name] = combination
    return Expanded(value, origin, made_of, tuple(problems))


def _axes_problem(document: Document, axes: Any, at: KeyPath, pattern: str) -> Problem | None:
    """Why `axes` is no matrix, or None."""

    def problem(path: KeyPath, rule: str, given: object, remedy: str) -> Problem:
        text = None if given is None else shown(given)
        return Problem(document.file, document.line(path), dotted(path), rule, text, remedy)

    if not isinstance(axes, dict) or not axes:
        return problem(at, "must map each placeholder to its values", axes, "write matrix: {language: [en, fr]}")
    count = 1
    for axis, values in axes.items():
        path = (*at, axis)
        if not re.fullmatch(r"[A-Za-z_]\w*", axis):
            return problem(path, "a placeholder is letters, digits and _", axis, "rename it")
        if not isinstance(values, list) or not values:
            return problem(path, "must be a list of values", values, f"write {axis}: [a, b]")
        for i, item in enumerate(values):
            if isinstance(item, bool) or not isinstance(item, (str, int, float)):
                spelled = document.spelled.get((*path, i))
                remedy = f'quote it: "{spelled}"' if spelled else "write text or numbers"
                return problem((*path, i), "must be text or a number", item, remedy)
            if item in values[:i]:
                return problem((*path, i), "is listed twice", item, "keep one")
        if f"{{{axis}}}" not in pattern:
            return problem(
                path,
                f"the name does not hold {{{axis}}}, so names would repeat",
                None,
                f"add {{{axis}}} to it",
            )
        count *= len(values)
    if count > MAX_EXPERTS:
        return problem(at, f"makes {count} entries, more than {MAX_EXPERTS}", None, "shorten an axis")
    return None


def _placeholders(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Every placeholder in the keys and texts below `path`, its own last key included."""
    if isinstance(path[-1], str):
        yield from ((path, name) for name in _PLACEHOLDER.findall(path[-1]))
    if isinstance(value, str):
        yield from ((path, name) for name in _PLACEHOLDER.findall(value))
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _placeholders(item, (*path, key))


def _filled(text: str, combination: Mapping[str, Scalar]) -> Scalar:
    """`text` with its placeholders replaced; a lone placeholder gives the value itself."""
    alone = _PLACEHOLDER.fullmatch(text)
    if alone and alone[1] in combination:
        return combination[alone[1]]
    return _PLACEHOLDER.sub(lambda found: str(combination.get(found[1], found[0])), text)


def _substitute(
    value: Any,
    combination: Mapping[str, Scalar],
    path: KeyPath,
    source: KeyPath,
    origin: dict[KeyPath, KeyPath],
) -> Any:
    """A copy of `value` with placeholders replaced, noting for each path below where it came from."""
    if isinstance(value, str):
        return _filled(value, combination)
    if isinstance(value, list):
        for i in range(len(value)):
            origin[*path, i] = (*source, i)
        return [_substitute(v, combination, (*path, i), (*source, i), origin) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, item in value.items():
        new = str(_filled(key, combination))
        origin[*path, new] = (*source, key)
        made[new] = _substitute(item, combination, (*path, new), (*source, key), origin)
    return made
