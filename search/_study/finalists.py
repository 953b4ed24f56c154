"""Finals over the rows of a search: `racing.finals` asks arrays, the loop has scored points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from search.racing import finals
from search.samplers import History, Problem
from search.samplers._optuna import to_unit
from search.statistics.front import reference_point

from .subject import Scored

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def promoter(
    problem: Problem, space: Mapping[str, BaseDistribution], rivals: np.ndarray[Any, Any], seed: int
) -> Callable[[Sequence[Scored], int], tuple[str, ...]]:
    """Who goes on to all items, for `Staged.promote`.

    Args:
        problem: what is searched. Without a reference the hypervolume is that from a tenth of the range beyond the
            worst of what was scored, in part or in full.
        space: name -> distribution, in the problem's order.
        rivals: (k, m) objectives of points outside the space that compete for the front.
        seed: of the draws.
    """

    def promote(scored: Sequence[Scored], turn: int) -> tuple[str, ...]:
        if not scored:
            return ()
        history, full = history_of(scored, space)
        asked = problem
        if problem.reference is None:
            asked = replace(problem, reference=tuple(reference_point(history.values, problem.directions).tolist()))
        least = finals.LEAST_GAIN if turn else finals.EARLY * finals.LEAST_GAIN
        chosen = finals.deserving(asked, history, full, rivals, least, seed)
        return tuple(scored[index].point for index in chosen[: finals.places(len(chosen), turn)])

    return promote


def history_of(
    scored: Sequence[Scored], space: Mapping[str, BaseDistribution]
) -> tuple[History, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Scored points as arrays, and which of them were scored in full."""
    told = [one.observation for one in scored]
    parts = np.array([np.ravel(observation.parts) for observation in told]).reshape(len(told), -1)
    history = History(
        np.array([[to_unit(one.values[name], d) for name, d in space.items()] for one in scored]),
        np.array([observation.values for observation in told]),
        np.array([observation.stderr for observation in told]),
        np.array([list(observation.constraints.values()) for observation in told]).reshape(len(told), -1),
        np.arange(len(told)),
        parts[:, ::2],
        parts[:, 1::2],
    )
    return history, np.array([one.full for one in scored])
