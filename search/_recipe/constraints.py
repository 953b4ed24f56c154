"""Constraints as written in a recipe: `over_refusal >= base - 0.02`, `min_language(general) >= base`, `harm <= 0.1`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from search.errors import suggestion

AGGREGATES = ("mean", "min_language")
EXAMPLE = 'write it as "NAME >= base - 0.02", "min_language(NAME) >= base" or "NAME <= 0.1"'

_NAME = r"[A-Za-z_][\w.-]*"
_LEFT = re.compile(rf"(?:(?P<aggregate>{_NAME})\s*\(\s*(?P<inner>{_NAME})\s*\)|(?P<name>{_NAME}))")
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_RIGHT = re.compile(
    rf"(?:(?P<relative>[A-Za-z_]\w*)(?:\s*(?P<sign>[+-])\s*(?P<offset>{_NUMBER}))?|(?P<bound>[+-]?{_NUMBER}))"
)
_EXACT = 1e-12  # what 64-bit sums such as 0.93 - 0.02 lose; far below any score's standard error


@dataclass(frozen=True)
class Constraint:
    """A score that must stay on one side of a bound.

    Attributes:
        aggregate: "mean" over all items, or "min_language": the lowest of the languages' scores.
        evaluator: the recipe's name of the evaluator.
        op: ">=" or "<=".
        relative: None for an absolute bound, "base" for the base model's score under the same aggregate.
        offset: added to the relative score, in the score's own unit; the bound itself if `relative` is None.
    """

    aggregate: Literal["mean", "min_language"]
    evaluator: str
    op: Literal[">=", "<="]
    relative: Literal["base"] | None
    offset: float

    def __str__(self) -> str:
        """The canonical text; `parse(str(constraint)) == constraint`."""
        left = self.evaluator if self.aggregate == "mean" else f"{self.aggregate}({self.evaluator})"
        if self.relative is None:
            return f"{left} {self.op} {self.offset!r}"
        shift = "" if self.offset == 0 else f" {'-' if self.offset < 0 else '+'} {abs(self.offset)!r}"
        return f"{left} {self.op} {self.relative}{shift}"


class ConstraintError(ValueError):
    """The text is no constraint. `rule` and `remedy` say why and what to write."""

    def __init__(self, rule: str, remedy: str = EXAMPLE):
        super().__init__(rule, remedy)
        self.rule, self.remedy = rule, remedy


def parse(text: str) -> Constraint:
    """Read one constraint.

    Raises:
        ConstraintError: not of the form above, an unknown aggregate, or a bound that is not finite.
    """
    operators = re.findall(r"[<>=!]+", text)
    if len(operators) != 1:
        raise ConstraintError("a constraint compares a score with a bound, once")
    op = operators[0]
    if op not in (">=", "<="):
        raise ConstraintError(f"'{op}' is not a comparison of constraints", "use >= or <=")
    left_text, _, right_text = (part.strip() for part in text.partition(op))
    left, right = _LEFT.fullmatch(left_text), _RIGHT.fullmatch(right_text)
    if left is None or right is None:
        side = left_text if left is None else right_text
        if side.endswith("%"):
            raise ConstraintError(f"cannot read '{side}'", "write a share, such as 0.02 for 2 %")
        raise ConstraintError(f"cannot read '{side}'")
    aggregate = left["aggregate"] or "mean"
    if aggregate not in AGGREGATES:
        if aggregate == "cvar":
            raise ConstraintError("not available yet: constraints on cvar", "use min_language(NAME)")
        raise ConstraintError(f"unknown aggregate '{aggregate}'", suggestion(aggregate, AGGREGATES))
    if right["relative"] is None:
        relative, offset = None, float(right["bound"])
    elif right["relative"] == "base":
        relative, offset = "base", float((right["sign"] or "+") + (right["offset"] or "0"))
    else:
        raise ConstraintError(f"'{right['relative']}' is not a bound", "compare with base or with a number")
    if not math.isfinite(offset):
        raise ConstraintError("the bound must be finite")
    return Constraint(
        aggregate="min_language" if aggregate == "min_language" else "mean",
        evaluator=left["inner"] or left["name"],
        op=">=" if op == ">=" else "<=",
        relative="base" if relative else None,
        offset=offset,
    )


def aggregated(constraint: Constraint, value: float, languages: Mapping[str, float]) -> float:
    """The number that `constraint` bounds, from a score over all items and the scores by language (may be empty)."""
    if constraint.aggregate == "min_language" and languages:
        return min(languages.values())
    return value


def margin(constraint: Constraint, value: float, base_value: float) -> float:
    """How far `value` is on the wrong side: <= 0 is feasible, in the score's unit (Optuna's sign).

    Args:
        constraint: the constraint.
        value: the candidate's score under the constraint's aggregate; finite.
        base_value: the base's score under the same aggregate; unused if the bound is absolute.
    """
    bound = constraint.offset + (base_value if constraint.relative == "base" else 0.0)
    distance = bound - value if constraint.op == ">=" else value - bound
    assert math.isfinite(distance), (constraint, value, base_value)
    return 0.0 if abs(distance) < _EXACT else distance
