"""Which points keep the recipe's constraints."""

from __future__ import annotations

from collections.abc import Sequence

from search._recipe.constraints import Constraint, margin
from search.store import Scores

from . import aggregates


def margins(constraints: Sequence[Constraint], scores: Scores, base: Scores) -> dict[str, float]:
    """Constraint text -> how far the scores are on its wrong side (<= 0 keeps it), in the score's unit.

    Args:
        constraints: of the recipe.
        scores: of the point.
        base: of the base model, on the same split.
    """
    return {
        str(constraint): margin(constraint, _value(constraint, scores), _value(constraint, base))
        for constraint in constraints
    }


def margin_errors(constraints: Sequence[Constraint], scores: Scores) -> dict[str, float]:
    """Constraint text -> standard error of the margin, in the score's unit.

    That of the point's own score: the bound is one number for all points of a split, so its error does not tell them
    apart.
    """
    return {
        str(constraint): aggregates.score(constraint.score, scores, constraint.larger_is_better).stderr
        for constraint in constraints
    }


def feasible(constraints: Sequence[Constraint], scores: Scores, base: Scores) -> bool:
    """Whether the scores keep all constraints."""
    return all(distance <= 0 for distance in margins(constraints, scores, base).values())


def _value(constraint: Constraint, scores: Scores) -> float:
    return aggregates.value(constraint.score, scores, constraint.larger_is_better)
