"""Scoring a function on its first items, then, for the points that a final chooses, on all of them."""

from __future__ import annotations

import numpy as np

from cluster.pool import Outcome

from .asked import Question
from .call import Call
from .finalists import promoter
from .subject import COMPLETE, PRUNED, Advance, Staged


def staged(question: Question) -> Staged:
    """A function's scoring in two stages, as the loop sees it; an interrupted call is made again."""
    first, every = map(range, question.stages)

    def advance(point: str, call: Call, outcome: Outcome) -> Advance:
        return Advance(outcome, state=COMPLETE if call.items == every else PRUNED)

    free = question.free()
    return Staged(
        begin=lambda point, call: call._replace(items=first),
        rest=lambda point, call: call._replace(items=every),
        advance=advance,
        entered=lambda point: None,
        promote=promoter(question.problem(free), free, np.zeros((0, len(question.objectives))), question.seed),
    )
