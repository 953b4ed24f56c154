"""The evaluators of a recipe with their items."""

from __future__ import annotations

from evaluators._items import load_items
from evaluators._schema import build
from evaluators._types import SPLITS

from .errors import UserError
from .experts import local_files
from .objective import Grader
from .ordering import balanced
from .recipe import Recipe


def load_graders(recipe: Recipe) -> tuple[Grader, ...]:
    """Load and check the items of every evaluator, in the recipe's order; items in their balanced order.

    Raises:
        UserError: an evaluator without items for one of the splits.
        InputError: what `evaluators` refuses: missing columns, unknown languages, items without an answer.
    """
    graders = []
    for name, spec in recipe.evaluators.items():
        source = {
            "path": recipe.source(spec.data).path,
            "files": list(local_files(recipe, spec.data)),
            "columns": dict(spec.data.columns),
            "split": spec.data.split,
        }
        items = load_items(source, recipe.languages)
        build(spec.kind, spec.options).check(items)
        # Stages of a race are prefixes of each split.
        halves = [[item for item in items if item.split == split] for split in SPLITS]
        ordered = tuple(half[index] for half in halves for index in balanced(half))
        grader = Grader(name, spec.kind, tuple(spec.options.items()), ordered)
        for split in SPLITS:
            if not grader.split(split):
                path = ("evaluators", name, "data")
                raise UserError(recipe.problem(path, f"no item is in the {split} split", None, "add items to it"))
        graders.append(grader)
    return tuple(graders)
