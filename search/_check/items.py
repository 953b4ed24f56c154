"""A recipe's evaluators and their items: options, columns, languages, both splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search._check.rows import missing_files
from search._recipe.yaml_text import KeyPath
from search.errors import Problem, UserError
from search.recipe import EvaluatorSpec, Recipe

if TYPE_CHECKING:
    from evaluators._types import Evaluator, Item

SPLITS = ("search", "report")


@dataclass(frozen=True)
class Items:
    """What the evaluators hold.

    Attributes:
        counts: evaluator -> (items of the search split, items of the report split).
        characters: mean length of prompt and answer together, over all items; 0 if there are none.
        problems: why the run cannot be scored.
        warnings: evaluators that miss a language.
        known: evaluator -> its items, where they could be read.
    """

    counts: dict[str, tuple[int, int]]
    characters: float
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    known: dict[str, tuple[Item, ...]]


def inspect(recipe: Recipe) -> Items:
    """Load the items of every evaluator and hold them against the recipe."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    counts: dict[str, tuple[int, int]] = {}
    lengths: list[int] = []
    known: dict[str, tuple[Item, ...]] = {}
    for name, spec in recipe.evaluators.items():
        absent = missing_files(recipe, ("evaluators", name, "data"), spec.data) if spec.data is not None else []
        problems += absent
        evaluator = _built(recipe, name, spec, problems)
        counts[name] = (0, 0) if absent else _items(recipe, name, evaluator, lengths, known, problems, warnings)
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    return Items(counts, mean, tuple(problems), tuple(warnings), known)


def _built(recipe: Recipe, name: str, spec: EvaluatorSpec, problems: list[Problem]) -> Evaluator | None:
    """The evaluator with its options; None, and a problem, if they do not fit."""
    from evaluators._errors import InputError
    from evaluators._schema import build, located

    path: KeyPath = ("evaluators", name, "options") if spec.options else ("evaluators", name, "kind")
    try:
        return build(spec.kind, located(spec.kind, spec.options, recipe.resolve))
    except InputError as error:
        problems.append(recipe.problem(path, str(error)))
    except TypeError as error:  # a value of a type that the factory does not take
        problems.append(recipe.problem(path, f"{spec.kind} does not take these options: {error}"))
    return None


def _items(
    recipe: Recipe,
    name: str,
    evaluator: Evaluator | None,
    lengths: list[int],
    known: dict[str, tuple[Item, ...]],
    problems: list[Problem],
    warnings: list[Problem],
) -> tuple[int, int]:
    """Items of each split of one evaluator."""
    from evaluators._errors import InputError
    from evaluators._lengths import too_long
    from search.scoring.graders import items_of

    path = ("evaluators", name, "data" if recipe.evaluators[name].data is not None else "kind")
    if evaluator is None:
        return (0, 0)
    try:
        items = items_of(recipe, name, recipe.evaluators[name], evaluator)
        evaluator.check(items)
        long = too_long(recipe.resolve(recipe.base), evaluator, items)
    except InputError as error:
        problems.append(recipe.problem(path, str(error)))
        return (0, 0)
    except UserError as error:
        problems += error.problems
        return (0, 0)
    if long is not None:
        problems.append(recipe.problem(path, long))
    known[name] = tuple(items)
    lengths += [len(item.prompt) + len(item.answer) for item in items]
    counts = Counter((item.split, item.language) for item in items)
    for split in SPLITS:
        missing = [language for language in recipe.languages if not counts[split, language]]
        if len(missing) == len(recipe.languages):
            problems.append(recipe.problem(path, f"no item is in the {split} split", None, "add items to it"))
        elif missing:
            rule = f"no item of the {split} split is in {', '.join(missing)}"
            warnings.append(recipe.problem(path, rule, None, "scores say nothing about these languages"))
    search, report = (sum(n for (split, _), n in counts.items() if split == wanted) for wanted in SPLITS)
    return search, report
