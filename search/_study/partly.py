"""Scoring a function on its first items, then, for the points that a final chooses, on all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cluster.pool import Outcome
from search.errors import Problem, UserError, shown

from .finalists import promoter
from .subject import COMPLETE, PRUNED, Advance, Staged

if TYPE_CHECKING:
    from .asked import Question

SIGNATURE = "write def score(params, items=None)"


class Call(NamedTuple):
    """One call of a score function: its parameters, and on which items; None: on all, without saying so."""

    params: Mapping[str, Any]
    items: range | None = None


class Answer(NamedTuple):
    """What a call returned, and on how many items; 1 where the search knows of no items."""

    result: Any
    items: int = 1


def made(score: Callable[..., Any], call: Call) -> Answer:
    """Make a call; raises what it raises."""
    if call.items is None:
        return Answer(score(call.params))
    return Answer(score(call.params, items=call.items), len(call.items))


def callable_with_items(score: Any, stages: tuple[int, ...]) -> None:
    """Whether a score function can be called as the search will call it.

    Raises:
        UserError: it is no function, or does not take `items` although there are stages.
    """
    if not callable(score):
        raise UserError(Problem("", None, "score", "must be a function", shown(score), SIGNATURE))
    if not stages:
        return
    try:
        inspect.signature(score).bind({}, items=range(1))
    except TypeError:
        raise UserError(Problem("", None, "score", "must take items, as there are stages", None, SIGNATURE)) from None
    except ValueError:
        pass  # compiled, and it does not say: its first call will tell


def staged(question: Question) -> Staged:
    """A function's scoring in two stages, as the loop sees it; an interrupted call is made again."""
    first, every = map(range, question.stages)

    def advance(point: str, call: Call, outcome: Outcome) -> Advance:
        if call.items == every:
            return Advance(outcome, state=COMPLETE)
        scores = question.scores(outcome.value.result)
        if not any(scores[name, ""].stderr > 0 for name in question.objectives):
            # As exact as all items, it would say: no final would think of giving it the rest.
            had = f"{len(first)} of {len(every)} items"
            raise ValueError(f"no objective has a standard error on {had}; return (value, standard error)")
        return Advance(outcome, state=PRUNED)

    free = question.free()
    return Staged(
        begin=lambda point, call: call._replace(items=first),
        rest=lambda point, call: call._replace(items=every),
        advance=advance,
        entered=lambda point: None,
        promote=promoter(question.problem(free), free, np.zeros((0, len(question.objectives))), question.seed),
    )
