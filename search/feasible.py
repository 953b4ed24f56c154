"""Which points keep the recipe's constraints."""

from __future__ import annotations

from collections.abc import Sequence

from ._recipe.constraints import Constraint, aggregated, margin
from .store import Scores


def margins(constraints: Sequence[Constraint], scores: Scores, base: Scores) -> dict[str, float]:
    """Constraint text -> how far the scores are on its wrong side (<= 0 keeps it), in the score's unit.

    Args:
        constraints: of the recipe.
        scores: of the point.
        base: of the base model, on the same split.
    """
    return {
        str(constraint): margin(constraint, _bounded(constraint, scores), _bounded(constraint, base))
        for constraint in constraints
    }


def feasible(constraints: Sequence[Constraint], scores: Scores, base: Scores) -> bool:
    """Whether the scores keep all constraints."""
    return all(distance <= 0 for distance in margins(constraints, scores, base).values())


def _bounded(constraint: Constraint, scores: Scores) -> float:
    by_language = {
        language: score.value
        for (evaluator, language), score in scores.items()
        if evaluator == constraint.evaluator and language
    }
    return aggregated(constraint, scores[constraint.evaluator, ""].value, by_language)
