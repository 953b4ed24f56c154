"""The evaluators of a recipe with their items."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from evaluators._items import digest, load_items
from evaluators._schema import build, located
from evaluators._types import SPLITS, Bringing, Evaluator, Item
from search.errors import UserError
from search.experts import local_files
from search.racing.ordering import balanced
from search.recipe import EvaluatorSpec, Recipe

from .objective import Grader


def load_graders(recipe: Recipe) -> tuple[Grader, ...]:
    """Load and check the items of every evaluator, in the recipe's order; items in their balanced order.

    Raises:
        UserError: an evaluator without items for one of the splits, or without data.
        InputError: what `evaluators` refuses: missing columns, unknown languages, items without an answer.
    """
    graders = []
    for name, spec in recipe.evaluators.items():
        options = located(spec.kind, spec.options, recipe.resolve)
        evaluator = build(spec.kind, options)
        items = items_of(recipe, name, spec, evaluator)
        evaluator.check(items)
        # Stages of a race are prefixes of each split.
        halves = [[item for item in items if item.split == split] for split in SPLITS]
        ordered = tuple(half[index] for half in halves for index in balanced(half))
        grader = Grader(name, spec.kind, tuple(options.items()), ordered)
        for split in SPLITS:
            if not grader.split(split):
                path = ("evaluators", name, "data")
                raise UserError(recipe.problem(path, f"no item is in the {split} split", None, "add items to it"))
        graders.append(grader)
    return tuple(graders)


def items_of(recipe: Recipe, name: str, spec: EvaluatorSpec, evaluator: Evaluator) -> tuple[Item, ...]:
    """The items of one evaluator: of its data, or those that its kind brings.

    Raises:
        UserError: data where the kind brings items, no data where it does not, or a file that is not there.
        InputError: what `evaluators` refuses.
    """
    path = ("evaluators", name, "data")
    if isinstance(evaluator, Bringing):
        if spec.data is not None:
            raise UserError(recipe.problem(path, f"{spec.kind} brings its own items", None, "remove the key"))
        return evaluator.items(recipe.languages)
    if spec.data is None:
        rule, remedy = f"{spec.kind} needs items", "add data: FILE with prompts and languages"
        raise UserError(recipe.problem(path[:2], rule, None, remedy))
    source = {
        "path": recipe.source(spec.data).path,
        "files": list(local_files(recipe, spec.data)),
        "columns": dict(spec.data.columns),
        "split": spec.data.split,
    }
    return load_items(source, recipe.languages)


def grader_key(grader: Grader) -> str:
    """What an evaluator's results are known by, in 64 hex digits: its kind's version and the content of its items."""
    version = build(grader.kind, dict(grader.options)).version
    return hashlib.sha256(f"{version}\x1f{digest(grader.items)}".encode()).hexdigest()


def grader_hashes(graders: Sequence[Grader]) -> dict[str, str]:
    """`evaluators.NAME` -> key, for the contents that a run is bound to."""
    return {f"evaluators.{grader.name}": grader_key(grader) for grader in graders}
