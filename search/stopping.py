"""When a search ends: candidates, wall time, evaluated items, tokens, cost, stagnation; whichever comes first.

What is under way when a rule is met is finished and counts. Wall time, items, tokens and cost are those of the whole
study, over all its searches and resumes, the scoring of unmerged models included; candidates and stagnation are each
search's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .statistics.front import Array, Mask
    from .store import Totals

DURATION = "write seconds, or a duration such as 90s, 15m, 2h, 1h30m or 2d"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*[smhd]\s*)+")


@dataclass(frozen=True)
class Stagnation:
    """No gain of hypervolume above the share `gain` of it over the last `candidates` scored candidates."""

    candidates: int
    gain: float = 0.0


@dataclass(frozen=True)
class Rules:
    """Limits of a search; infinite where nothing is stated.

    Attributes:
        candidates: of this search, failed ones included.
        wall_time: seconds in which a driver worked on the study.
        items: that were scored, over all evaluators.
        tokens: of prompts, answers and responses that went through models to score them.
        cost: seconds of evaluation.
        stagnation: see `Stagnation`; None: never.
        shared: candidates of all searches of the study, those under way included.
    """

    candidates: float = math.inf
    wall_time: float = math.inf
    items: float = math.inf
    cost: float = math.inf
    stagnation: Stagnation | None = None
    shared: float = math.inf
    tokens: float = math.inf


@dataclass(frozen=True)
class Stop:
    """Why a search ended: the rule's name and one line."""

    rule: str
    reason: str


class RuleError(ValueError):
    """A stopping rule that cannot be read: the key below the rules, the rule, and what to write."""

    def __init__(self, key: str, rule: str, remedy: str, value: Any = None):
        super().__init__(key, rule, remedy, value)
        self.key, self.rule, self.remedy, self.value = key, rule, remedy, value


def due(rules: Rules, candidates: int, totals: Totals, wall: float) -> Stop | None:
    """The first rule that is met, stagnation left out.

    Args:
        rules: of the search.
        candidates: of the search, under way ones included.
        totals: running sums of the study.
        wall: seconds in which a driver worked on the study, until now.
    """
    if candidates >= rules.candidates:
        return Stop("candidates", f"{rules.candidates:g} candidates")
    if wall >= rules.wall_time:
        return Stop("wall_time", f"{wall:.0f} s of wall time, the limit is {rules.wall_time:g} s")
    if totals.items >= rules.items:
        return Stop("items", f"{totals.items} items evaluated, the limit is {rules.items:g}")
    if totals.tokens >= rules.tokens:
        return Stop("tokens", f"{totals.tokens} tokens processed, the limit is {rules.tokens:g}")
    if totals.seconds >= rules.cost:
        return Stop("cost", f"{totals.seconds:.0f} s of evaluation, the limit is {rules.cost:g} s")
    return None


def stagnated(
    rule: Stagnation, values: Array, directions: Sequence[str], feasible: Mask, reference: Sequence[float]
) -> Stop | None:
    """Whether the last `rule.candidates` points added no more than `rule.gain` of the hypervolume.

    Args:
        rule: the rule.
        values: (n, m) objectives of all scored points, in the order in which they were scored; those that were known
            before the search come first.
        directions: of the objectives.
        feasible: (n,) which of them keep the constraints.
        reference: (m,) of the hypervolume.

    Returns:
        None too while nothing reaches the reference: then there is nothing yet that could stop growing.
    """
    import numpy as np

    from .statistics import front

    if len(values) <= rule.candidates:
        return None
    before = feasible & (np.arange(len(values)) < len(values) - rule.candidates)
    old = front.hypervolume(values[before], directions, reference)
    new = front.hypervolume(values[feasible], directions, reference)
    if old <= 0 or new - old > rule.gain * new:
        return None
    share = (new - old) / new
    said = f"the hypervolume grew by {100 * share:.3g} % over the last {rule.candidates} candidates"
    return Stop("stagnation", f"{said}, the limit is {100 * rule.gain:g} %")


def duration(value: Any, key: str = "") -> float:
    """Seconds of a number or a text such as "2h".

    Raises:
        RuleError: neither, or not above 0.
    """
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        seconds = sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value))
    if not (seconds > 0 and math.isfinite(seconds)):
        raise RuleError(key, "must be a duration above 0", DURATION, value)
    return seconds


def amount(value: Any, key: str = "", *, whole: bool = False) -> float:
    """A number above 0; `whole`: without a fraction.

    Raises:
        RuleError: anything else.
    """
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    if not fine or (whole and value != int(value)):
        rule = "must be a whole number above 0" if whole else "must be a number above 0"
        raise RuleError(key, rule, "write a number such as 100", value)
    return float(value)


def stagnation(value: Any, key: str = "stagnation") -> Stagnation:
    """{"candidates": k, "gain": share} as a rule.

    Raises:
        RuleError: not of this form.
    """
    remedy = "write {candidates: 40, gain: 0.001}"
    if isinstance(value, Stagnation):
        return value
    if not isinstance(value, Mapping) or "candidates" not in value:
        raise RuleError(key, "must state candidates", remedy, value)
    for name in value:
        if name not in ("candidates", "gain"):
            raise RuleError(f"{key}.{name}", "unknown key", suggestion(name, ("candidates", "gain")))
    gain = value.get("gain", 0.0)
    if isinstance(gain, bool) or not isinstance(gain, int | float) or not 0 <= gain < 1:
        raise RuleError(f"{key}.gain", "must be a share from 0 to below 1", "write a share such as 0.001", gain)
    return Stagnation(int(amount(value["candidates"], f"{key}.candidates", whole=True)), float(gain))


def rules_of(value: Any) -> Rules:
    """A number of candidates, or a mapping of rules by name, as `Rules`.

    Raises:
        RuleError: an unknown rule, a value that it cannot have, or no rule at all.
    """
    if not isinstance(value, Mapping):
        return Rules(candidates=amount(value, whole=True))
    readers: dict[str, Any] = {
        "candidates": lambda v, key: amount(v, key, whole=True),
        "wall_time": duration,
        "items": amount,
        "tokens": amount,
        "cost": duration,
        "stagnation": stagnation,
    }
    if not value:
        raise RuleError("", "must state a rule", f"state one of {', '.join(readers)}", value)
    for name in value:
        if name not in readers:
            raise RuleError(str(name), "unknown rule", suggestion(name, readers))
    return Rules(**{name: readers[name](given, name) for name, given in value.items()})


def endings(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Why each search ended last, from the `stopped` events of a study: search -> one line."""
    return {event["search"]: event["reason"] for event in events}
