"""What a search searches, as values and functions: candidates, how they are scored, and what a score is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.pool import Outcome
from search.store import Scores

from .proposals import Observation, Values

COMPLETE, PRUNED = "COMPLETE", "PRUNED"
SCORED = (COMPLETE, PRUNED)  # in full, or on as many items as it took to drop it


@dataclass(frozen=True)
class Candidate:
    """One thing to score: its key, how its row names it, what the pool is given."""

    key: str
    method: str
    params: Mapping[str, Any]
    task: Any
    kind: str = "merge"


@dataclass(frozen=True)
class Advance:
    """What follows one task of a candidate: the outcome of all so far, and another task or the state it ends in.

    `tokens` are those of all its tasks.
    """

    outcome: Outcome
    task: Any = None
    state: str = COMPLETE
    tokens: int = 0


@dataclass(frozen=True)
class Scored:
    """A scored point: its id, the sampler's values, what scoring gave so far, and whether that was on all items."""

    point: str
    values: Values
    observation: Observation
    full: bool


@dataclass(frozen=True)
class Staged:
    """A candidate's scoring in several tasks, as functions.

    Attributes:
        begin: a point's id and its task -> the task that it begins, or goes on, with.
        rest: a point's id and its task -> the task of all that it lacks.
        advance: a point's id, the task that ended and its outcome, which is no error -> what follows; raises ValueError
            with one line where there is no score to trust.
        entered: told the id of every point that was scored in full, is feasible and may be on the front.
        promote: scored points, and the round of the last final from 1 on, or 0 before the search's end -> ids of those
            to score in full now.
    """

    begin: Callable[[str, Any], Any]
    rest: Callable[[str, Any], Any]
    advance: Callable[[str, Any, Outcome], Advance]
    entered: Callable[[str], None]
    promote: Callable[[Sequence[Scored], int], Sequence[str]]


@dataclass(frozen=True)
class Subject:
    """What a search searches, as functions.

    Attributes:
        name: of the search, in its rows.
        directions: of the objectives.
        reference: of the hypervolume; None: a tenth of the range beyond the worst of what was scored.
        candidate: a sampler's values -> what is scored.
        scores: an outcome without error -> scores; raises ValueError with one line where there is none to trust.
        keep: called with the point's id and the outcome before its row is completed (per-item results).
        observation: scores -> what the sampler is told.
        known: points that cost nothing: (values, observation), entered first.
        first: points to score before the sampler is asked.
        stages: how a candidate's scoring is divided; None: one task scores it.
        tokens: an outcome without error -> tokens that a model processed for it.
    """

    name: str
    directions: tuple[str, ...]
    reference: tuple[float, ...] | None
    candidate: Callable[[Values], Candidate]
    scores: Callable[[Outcome], Scores]
    keep: Callable[[str, Outcome], None]
    observation: Callable[[Scores], Observation]
    known: Sequence[tuple[Values, Observation]] = ()
    first: Sequence[Values] = ()
    stages: Staged | None = None
    tokens: Callable[[Outcome], int] = lambda _: 0
