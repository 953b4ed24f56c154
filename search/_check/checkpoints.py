"""What a recipe's models look like from their headers: base and existing experts, and whether they can be merged."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search._recipe.yaml_text import KeyPath
from search._space import layers
from search.errors import Problem, shown
from search.recipe import ExistingExpert, Recipe, SearchSpec

if TYPE_CHECKING:
    from mergers._checkpoint.checkpoint import Checkpoint

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")


@dataclass(frozen=True)
class Models:
    """Base and experts, as far as headers tell: number of parameters of the base (0 if it cannot be opened)."""

    parameters: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def inspect(recipe: Recipe) -> Models:
    """Open every model that exists, compare each with the base, and hold methods against the number of experts."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    base = _opened(recipe, ("base",), recipe.base, problems)
    existing = [
        ((section, name, "path"), name, model.path)
        for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines))
        for name, model in models.items()
        if isinstance(model, ExistingExpert)
    ]
    for path, name, written in existing:
        found = _opened(recipe, path, written, problems)
        if base is not None and found is not None:
            problems += _differences(recipe, path, name, base, found)
    if base is not None:
        groups = layers.problem_of(recipe, base.names)
        problems += [] if groups is None else [groups]
    problems += _counts(recipe)
    parameters = 0 if base is None else sum(math.prod(base.shape(name)) for name in base.names)
    return Models(parameters, tuple(problems), tuple(warnings))


def _opened(recipe: Recipe, path: KeyPath, written: str, problems: list[Problem]) -> Checkpoint | None:
    """The checkpoint that the recipe names at `path`; None, and a problem, if it cannot be used."""
    from mergers._checkpoint.checkpoint import open_checkpoint
    from mergers._errors import InputError

    def refuse(rule: str, remedy: str = "") -> None:
        problems.append(recipe.problem(path, rule, shown(written), remedy))

    folder = Path(recipe.resolve(written))
    if not folder.is_absolute():  # a hub id that is not in the hub cache either
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        state = " and hub access is off (HF_HUB_OFFLINE)" if offline else ""
        refuse(f"is neither a directory nor in the hub cache{state}", f"check the path, or run `hf download {written}`")
        return None
    if not folder.exists():
        refuse("no such directory", "check the path; it is relative to the recipe")
        return None
    try:
        checkpoint = open_checkpoint(folder)
    except InputError as error:
        problems.append(recipe.problem(path, str(error)))
        return None
    if not isinstance(_json(folder / "config.json"), dict):
        refuse("has no readable config.json", "save the model with save_pretrained")
    if path == ("base",) and not any((folder / name).is_file() for name in _TOKENIZERS):
        refuse("holds no tokenizer", "save it there with tokenizer.save_pretrained")
    return checkpoint


def _differences(recipe: Recipe, path: KeyPath, name: str, base: Checkpoint, other: Checkpoint) -> list[Problem]:
    from mergers._checkpoint.checkpoint import compare
    from mergers._errors import InputError

    try:
        compare(base, other, name)
    except InputError as error:
        return [recipe.problem(path, str(error))]
    ours, theirs = _vocabulary(base.path), _vocabulary(other.path)
    if ours and theirs and ours != theirs:
        moved = next((token for token, place in ours.items() if theirs.get(token) != place), None)
        example = (
            "" if moved is None else f" (token {shown(moved, 30)} is {ours[moved]} there and {theirs.get(moved)} here)"
        )
        rule = f"{name} has another vocabulary than the base{example}"
        return [recipe.problem(path, rule, None, "an expert must be fine-tuned from this base")]
    return []


def _vocabulary(folder: Path) -> Mapping[str, Any] | None:
    """Token -> id of a fast tokenizer; None where there is none to compare."""
    tokenizer = _json(folder / "tokenizer.json")
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    found = model.get("vocab") if isinstance(model, dict) else None
    return found if isinstance(found, dict) else None


def _counts(recipe: Recipe) -> list[Problem]:
    """Methods that cannot merge as many experts as their search names."""
    from mergers._errors import InputError
    from mergers._schema import load_method

    problems = []
    searches: dict[tuple[str, ...], SearchSpec] = {("search",): recipe.search}
    searches |= {("searches", name): spec for name, spec in recipe.searches.items()}
    for place, spec in searches.items():
        count = len(spec.experts)
        for i, name in enumerate(spec.methods):
            path: KeyPath = (*place, "methods", i)
            try:
                method = load_method(name)
            except InputError as error:
                problems.append(recipe.problem(path, str(error)))
                continue
            least, most = method.min_experts, method.max_experts
            if count < least or (most is not None and count > most):
                many = f"at least {least}" if most is None else f"{least} to {most}"
                takes = f"exactly {least}" if least == most else many
                rule = f"{name} merges {takes} experts; {'.'.join(place)}.experts names {count}"
                problems.append(recipe.problem(path, rule, None, f"drop {name}, or change {'.'.join(place)}.experts"))
    return problems


def _json(file: Path) -> Any:
    """The contents of a JSON file; None if there is none to read."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
