"""Constraints as in a recipe: `refusal <= base + 0.02`, `min_language(general) >= base * 0.95`, `harm <= 0.1`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from search.statistics import aggregates
from search.statistics.aggregates import Aggregate, AggregateError

EXAMPLE = 'write it as "NAME >= base - 0.02", "min_language(NAME) >= base * 0.95" or "NAME <= 0.1"'

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_RIGHT = re.compile(
    rf"(?:(?P<relative>[A-Za-z_]\w*)(?:\s*\*\s*(?P<factor>{_NUMBER}))?(?:\s*(?P<sign>[+-])\s*(?P<offset>{_NUMBER}))?"
    rf"|(?P<bound>[+-]?{_NUMBER}))"
)
_EXACT = 1e-12  # what 64-bit sums such as 0.93 - 0.02 lose; far below any score's standard error


@dataclass(frozen=True)
class Constraint:
    """A score that must stay on one side of a bound.

    Attributes:
        score: what is bounded: an evaluator, or an aggregate over its languages.
        op: ">=" or "<="; it also says which languages are the worst.
        relative: None for an absolute bound, "base" for the base model's score under the same aggregate.
        offset: added to the relative score, in the score's own unit; the bound itself if `relative` is None.
        factor: of the relative score.
    """

    score: Aggregate
    op: Literal[">=", "<="]
    relative: Literal["base"] | None
    offset: float
    factor: float = 1.0

    @property
    def larger_is_better(self) -> bool:
        """Whether the bound is a lower one."""
        return self.op == ">="

    def __str__(self) -> str:
        """The canonical text; `parse(str(constraint)) == constraint`."""
        if self.relative is None:
            return f"{self.score} {self.op} {self.offset!r}"
        times = "" if self.factor == 1 else f" * {self.factor!r}"
        shift = "" if self.offset == 0 else f" {'-' if self.offset < 0 else '+'} {abs(self.offset)!r}"
        return f"{self.score} {self.op} {self.relative}{times}{shift}"


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
    right = _RIGHT.fullmatch(right_text)
    try:
        score = aggregates.parse(left_text)
    except AggregateError as error:
        remedy = EXAMPLE if error.remedy == aggregates.EXAMPLE else error.remedy
        raise ConstraintError(error.rule, remedy) from None
    if right is None:
        if right_text.endswith("%"):
            raise ConstraintError(f"cannot read '{right_text}'", "write a share, such as 0.02 for 2 %")
        raise ConstraintError(f"cannot read '{right_text}'")
    factor = 1.0
    if right["relative"] is None:
        relative, offset = None, float(right["bound"])
    elif right["relative"] == "base":
        relative, offset = "base", float((right["sign"] or "+") + (right["offset"] or "0"))
        factor = float(right["factor"] or "1")
    else:
        raise ConstraintError(f"'{right['relative']}' is not a bound", "compare with base or with a number")
    if not math.isfinite(offset) or not math.isfinite(factor):
        raise ConstraintError("the bound must be finite")
    if factor == 0:
        raise ConstraintError("base * 0 is no bound relative to the base", "compare with a number")
    return Constraint(score, ">=" if op == ">=" else "<=", "base" if relative else None, offset, factor)


def margin(constraint: Constraint, value: float, base_value: float) -> float:
    """How far `value` is on the wrong side: <= 0 is feasible, in the score's unit (Optuna's sign).

    Args:
        constraint: the constraint.
        value: the candidate's score under the constraint's aggregate; finite.
        base_value: the base's score under the same aggregate; unused if the bound is absolute.
    """
    bound = constraint.offset + (constraint.factor * base_value if constraint.relative == "base" else 0.0)
    distance = bound - value if constraint.op == ">=" else value - bound
    assert math.isfinite(distance), (constraint, value, base_value)
    return 0.0 if abs(distance) < _EXACT else distance
