"""What a recipe of somebody else may name: files below permitted directories, URLs below permitted prefixes.

Decided before any of it is opened. Links are followed first, so that one inside a permitted directory opens nothing
outside.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from search._recipe.yaml_text import KeyPath
from search.errors import Problem, shown
from search.recipe import ExistingExpert, Recipe

_MOST = 10_000  # files of one glob that are looked at


def problems(recipe: Recipe, allowed: Sequence[str]) -> tuple[Problem, ...]:
    """One problem for each thing named that is not permitted.

    Args:
        recipe: as parsed; nothing that it names has been opened.
        allowed: absolute directories, and prefixes of URLs.
    """
    roots = tuple(os.path.realpath(root) for root in allowed if "://" not in root)
    prefixes = tuple(root for root in allowed if "://" in root)
    found = []
    for path, value in _named(recipe):
        if not _permitted(recipe, value, roots, prefixes):
            remedy = "name what lies below " + (", ".join(allowed) or "nothing, until the operator permits a directory")
            found.append(recipe.problem(path, "is not permitted by this service", shown(value), remedy))
    return tuple(found)


def below(path: str, allowed: Sequence[str]) -> bool:
    """Whether a directory or file lies below a permitted directory."""
    return _below(path, tuple(os.path.realpath(root) for root in allowed if "://" not in root))


def _named(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Everything in a recipe that is, or could be, a place."""
    yield ("base",), recipe.base
    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        for name, model in models.items():
            if isinstance(model, ExistingExpert):
                yield (section, name, "path"), model.path
            else:
                yield from _odd((section, name), model.model_dump(mode="json", exclude={"path"}))
    for name, source in recipe.data.items():
        yield from _source(("data", name), source.path, source.files)
    for name, evaluator in recipe.evaluators.items():
        if evaluator.data is not None:
            yield from _source(("evaluators", name, "data"), evaluator.data.path, evaluator.data.files)
        yield from _odd(("evaluators", name, "options"), dict(evaluator.options))
    yield from _odd(("search",), recipe.search.model_dump(mode="json"))
    for name, spec in recipe.searches.items():
        yield from _odd(("searches", name), spec.model_dump(mode="json"))
    preset = recipe.cluster.trainers.deepspeed
    if preset is not None and ("/" in preset or preset.endswith(".json")):
        yield ("cluster", "trainers", "deepspeed"), preset
    if recipe.database != "sqlite":
        yield ("database",), recipe.database


def _source(path: KeyPath, loaded: str, files: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    if not files:
        yield (*path, "path"), loaded
    for file in files:
        yield (*path, "files"), file


def _odd(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str]]:
    """Texts that look like places where none is expected: an option of an evaluator may well be a file."""
    if isinstance(value, str):
        if value.startswith(("/", "~", "..")) or "/../" in value or "://" in value:
            yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _odd((*path, key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _odd(path, inner)


def _permitted(recipe: Recipe, value: str, roots: Sequence[str], prefixes: Sequence[str]) -> bool:
    if "::" in value:
        return False  # a chain of file systems (`simplecache::...`) has no one place
    if "://" in value:
        plain = "/../" not in value and not value.endswith("/..")
        return plain and any(value.startswith(prefix) for prefix in prefixes)
    resolved = recipe.resolve(value)
    if not os.path.isabs(resolved):
        return True  # a hub id: published, and in the cache of hub models or nowhere
    if resolved != os.path.abspath(recipe.directory / Path(value).expanduser()):
        return True  # a hub id that is cached
    if not any(letter in resolved for letter in "*?["):
        return _below(resolved, roots)
    fixed = Path(resolved)
    while any(letter in str(fixed) for letter in "*?["):
        fixed = fixed.parent
    if not _below(str(fixed), roots):
        return False
    matches = glob.iglob(resolved, recursive=True)
    return all(number < _MOST and _below(match, roots) for number, match in enumerate(matches))


def _below(path: str, roots: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots)
