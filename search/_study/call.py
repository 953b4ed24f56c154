"""One call of a score function: on what, and what it returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from search.errors import Problem, UserError, shown

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
