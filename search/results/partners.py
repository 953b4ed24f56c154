"""Which evaluator says what another one's safety costs: the refusals of harmless look-alikes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from search.statistics.aggregates import parse

if TYPE_CHECKING:
    from search.recipe import Recipe

SAFETY, OVER_REFUSAL = "safety", "over_refusal"


def partners(recipe: Recipe) -> dict[str, str]:
    """Evaluator -> the evaluator of its look-alikes; `safety` and `over_refusal` belong together without being told."""
    stated = {name: spec.look_alikes for name, spec in recipe.evaluators.items() if spec.look_alikes is not None}
    if {SAFETY, OVER_REFUSAL} <= set(recipe.evaluators) and SAFETY not in stated:
        stated[SAFETY] = OVER_REFUSAL
    return stated


def beside_objectives(objectives: Iterable[str], paired: Mapping[str, str]) -> dict[str, str]:
    """Objective, which may be an aggregate over languages -> the evaluator of its look-alikes, where it has one."""
    found = {name: paired.get(parse(name).evaluator) for name in objectives} if paired else {}
    return {name: partner for name, partner in found.items() if partner is not None and partner != name}


def columns(objectives: Mapping[str, str], paired: Mapping[str, str]) -> dict[str, str]:
    """What a table of points shows: score -> its direction, "" for a partner that is no objective; in order.

    Every safety score has its look-alikes at its right.
    """
    partner = beside_objectives(objectives, paired)
    found: dict[str, str] = {}
    for name, way in objectives.items():
        found.setdefault(name, way)
        if name in partner:
            found.setdefault(partner[name], objectives.get(partner[name], ""))
    return found
