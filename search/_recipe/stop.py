"""The `search.stop` section of a recipe: when the search ends before all candidates are scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator

from search._recipe.fields import number, refusal, whole
from search._recipe.models import Section
from search.stopping import RuleError, Rules, Stagnation, amount, duration


def _read(reader: Callable[[Any], float]) -> BeforeValidator:
    def check(value: Any) -> float:
        try:
            return reader(value)
        except RuleError as error:
            raise refusal(error.rule, error.remedy) from None

    return BeforeValidator(check)


class StagnationSpec(Section):
    """No gain of hypervolume above the share `gain` over the last `candidates` merges that a search scored."""

    candidates: Annotated[int, whole(1, 10**6, "write a number of merges such as 40")]
    gain: Annotated[float, number(0, 1, "write a share such as 0.001")] = 0.0


class StopSpec(Section):
    """Limits beside `search.candidates`; whichever comes first. What is under way then is finished.

    Attributes:
        wall_time: seconds, or a text such as 2h: while a driver works on the run, over all resumes.
        items: that were scored in the search, over all evaluators, those of unmerged models included.
        tokens: of prompts, answers and responses that went through models to score these items.
        cost: seconds of evaluation, over all actors; or a text such as 2h.
        stagnation: of the hypervolume, for each search by itself.
    """

    wall_time: Annotated[float, _read(duration)] | None = None
    items: Annotated[float, _read(amount)] | None = None
    tokens: Annotated[float, _read(amount)] | None = None
    cost: Annotated[float, _read(duration)] | None = None
    stagnation: StagnationSpec | None = None

    def rules(self, candidates: int, shared: float = math.inf) -> Rules:
        """The rules of a search that has `candidates` merges to score, of `shared` that all searches have."""
        limits = {name: getattr(self, name) for name in ("wall_time", "items", "tokens", "cost")}
        stated: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
        if self.stagnation is not None:
            stated["stagnation"] = Stagnation(self.stagnation.candidates, self.stagnation.gain)
        return Rules(candidates=candidates, shared=shared, **stated)
