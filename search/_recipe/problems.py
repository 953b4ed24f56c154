"""From pydantic's errors to problems that a person can act on: file, line, path, rule, value, remedy."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Tag, ValidationError

from search._recipe.yaml_text import Document, KeyPath
from search.errors import Problem, dotted, shown, suggestion

_SHAPES = {  # pydantic's error type -> rule and remedy
    "model_type": ("must be a mapping", "write `key: value` lines below it"),
    "model_attributes_type": ("must be a mapping", "write `key: value` lines below it"),
    "dict_type": ("must be a mapping", "write `key: value` lines below it"),
    "mapping_type": ("must be a mapping", "write `key: value` lines below it"),
    "tuple_type": ("must be a list", "write [a, b]"),
    "missing": ("is required", "add it"),
}


class Origin:
    """Where each path of the expanded recipe stands in the file."""

    def __init__(self, document: Document, moved: Mapping[KeyPath, KeyPath]) -> None:
        self.document = document
        self._moved = dict(moved)

    def path(self, path: KeyPath) -> KeyPath:
        """`path` as the file has it: placeholders below a matrix entry, and merged keys where they are written."""
        for moved in (self._moved, self.document.shared):
            n = next((n for n in range(len(path), 0, -1) if path[:n] in moved), 0)
            path = (*moved[path[:n]], *path[n:]) if n else path
        return path

    def problem(self, path: KeyPath, rule: str, value: str | None = None, remedy: str = "") -> Problem:
        """A problem at `path` of the expanded recipe."""
        source = self.path(path)
        return Problem(self.document.file, self.document.line(source), dotted(source), rule, value, remedy)


def translate(error: ValidationError, model: type[BaseModel], origin: Origin) -> tuple[Problem, ...]:
    """Every error as a problem, in the order of the file; what a matrix repeats is said once."""
    problems = dict.fromkeys(_problem(details, model, origin) for details in error.errors(include_url=False))
    return tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.path)))


def _problem(details: Mapping[str, Any], model: type[BaseModel], origin: Origin) -> Problem:
    loc: tuple[str | int, ...] = details["loc"]
    path = tuple(part for part in loc if not (isinstance(part, str) and (part[:1] == "<" or part == "[key]")))
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return origin.problem(path, "unknown key", None, suggestion(path[-1], _keys(model, loc[:-1])))
    if kind == "missing":
        return origin.problem(path, *_at_missing(path))
    rule, remedy = _SHAPES.get(kind, (details["msg"][:1].lower() + details["msg"][1:], ""))
    if kind == "recipe":
        rule, remedy = context["rule"], context["remedy"]
        if "value" in context:
            return origin.problem(path, rule, context["value"], remedy)
    if given is None:
        return origin.problem(path, rule, "nothing", remedy or "write a value after the colon")
    spelled = origin.document.spelled.get(origin.path(path))
    if isinstance(given, bool) and spelled is not None and spelled.lower() not in ("true", "false"):
        quoted = f'quote it: "{spelled}"' if rule == "must be text" else remedy
        return origin.problem(path, rule, f"{shown(given)}, which YAML reads from {spelled}", quoted)
    if isinstance(given, (int, float)) and not isinstance(given, bool) and spelled is not None:
        return origin.problem(path, rule, spelled, remedy)
    return origin.problem(path, rule, shown(given), remedy)


def _at_missing(path: KeyPath) -> tuple[str, None, str]:
    return "is required", None, f"add `{path[-1]}:`"


def _keys(model: type[BaseModel], loc: KeyPath) -> tuple[str, ...]:
    """The keys that the section at pydantic's location `loc` knows."""
    annotation: Any = model
    for part in loc:
        annotation = _inside(annotation, part)
    names = tuple(field.alias or name for name, field in _plain(annotation).model_fields.items())
    return (*names, "matrix") if len(loc) == 3 and loc[0] in ("experts", "baselines", "searches") else names


def _plain(annotation: Any) -> Any:
    """An annotation without `Annotated[...]`, and without None beside one other type."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
            rest = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def _inside(annotation: Any, part: str | int) -> Any:
    """The annotation one step down: a field, an item, or the arm of a union that `part` (a tag) names."""
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return next(f.annotation for name, f in annotation.model_fields.items() if (f.alias or name) == part)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        arms = typing.get_args(annotation)
        return next(arm for arm in arms if Tag(str(part)) in typing.get_args(arm)[1:])
    arguments = typing.get_args(annotation)
    return arguments[1] if len(arguments) == 2 and arguments[1] is not ... else arguments[0]
