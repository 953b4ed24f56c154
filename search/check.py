"""Look before leaping: everything that metadata can tell about a run, before anything is written or started.

Reads configs, safetensors headers, data files and what the machine offers; asks judges' endpoints for their models, and
fetches what the recipe names by URL.
Every problem is reported, not the first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from search._check import (
    aims,
    checkpoints,
    contamination,
    engine,
    items,
    judges,
    machine,
    output,
    remote,
    rows,
    trainings,
)
from search._check.estimates import Estimate, estimates
from search.errors import Problem, UserError
from search.recipe import Recipe


@dataclass(frozen=True)
class Report:
    """What a recipe that can run will do.

    Attributes:
        warnings: what may be meant and probably is not.
        estimates: what the run will cost, one row each, for people; see `search._check.estimates`.
    """

    warnings: tuple[Problem, ...]
    estimates: tuple[Estimate, ...]

    def __str__(self) -> str:
        """A short table, then the warnings."""
        width = max((len(row.what) for row in self.estimates), default=0)
        rows = [f"{row.what:<{width}}  {row.amount}" for row in self.estimates]
        return "\n".join([*rows, *(f"warning: {warning}" for warning in self.warnings)])


def check(recipe: Recipe, *, out: Path | None = None) -> Report:
    """Check a recipe against its files and this machine; nothing is written, no cluster is started.

    Args:
        recipe: what `load_recipe` returned.
        out: the run directory; the recipe's `storage` if None.

    Returns:
        Warnings and estimates.

    Raises:
        UserError: with all problems found.
    """
    directory = recipe.directory / recipe.storage if out is None else Path(out).absolute()
    if unusable := remote.problems(recipe):
        raise UserError(unusable)
    where = (("storage",), "") if out is None else ((), str(out))
    models = checkpoints.inspect(recipe)
    scored = items.inspect(recipe)
    needs = machine.needs(recipe, models.parameters)
    unreachable, odd = judges.inspect(recipe)
    misguided, unpaired = aims.inspect(recipe)
    unreadable = rows.problems(recipe)
    found = () if unreadable else contamination.compare(recipe, scored.known)
    leaked, permitted = contamination.problems(recipe, found)
    problems = _unique(
        models.problems
        + scored.problems
        + trainings.problems(recipe)
        + unreadable
        + leaked
        + unreachable
        + misguided
        + engine.problems(recipe)
        + machine.problems(recipe, needs)
        + output.problems(recipe, directory, where)
        + output.disk_problems(recipe, directory, needs)
    )
    if problems:
        raise UserError(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
    warnings = models.warnings + scored.warnings + odd + unpaired + permitted + machine.warnings(recipe, needs)
    costs = estimates(recipe, models.parameters, scored, needs) + contamination.estimates(found)
    costs += judges.estimates(recipe, scored)
    return Report(_unique(warnings), costs)


def _unique(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """`problems` without repeats: experts of one matrix share lines and so may share problems."""
    return tuple(dict.fromkeys(problems))
