"""The search of a function of one's own: `mergefront.search`, for scores that do not come from a recipe. No Ray.

The study is the one of a run (`store`, `_study.loop`): rows first, so that a call that was killed goes on where it
stopped when it is made again with the same `storage`.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ._study import asked
from ._study.call import callable_with_items, made
from ._study.caller import CallerPool
from ._study.lock import held
from ._study.loop import FAILURES, Search, SearchFailed, drive
from ._study.partly import staged
from ._study.points import Study, study_of
from ._study.subject import Subject
from .stopping import Stop
from .store import Store

if TYPE_CHECKING:
    from ._study.asked import Question

Score = Callable[..., Mapping[str, Any]]
"""(params, items=None) -> {name: value} or {name: (value, standard error)}."""

NAME = "study"


def search(
    score: Score,
    space: Mapping[str, Any],
    *,
    objectives: Mapping[str, str],
    constraints: str | Sequence[str] = (),
    budget: int | Mapping[str, Any],
    sampler: str = "auto",
    seed: int = 0,
    storage: str | Any = None,
) -> Study:
    """Search the front of a function of one's own.

        study = mergefront.search(
            lambda params, items=None: {"accuracy": (0.81, 0.01), "cost": params["depth"] * 0.1},
            {"depth": (1.0, 8.0), "rate": (1e-5, 1e-2, "log"), "kind": ["a", "b"]},
            objectives={"accuracy": "max", "cost": "min"},
            constraints=["cost <= 0.6"],
            budget=60,
            storage="study.db",
        )
        print(study)

    Points are scored one after the other, in a thread of their own. A call that raises, returns something else than
    it must, a value that is not finite, or nothing within the limit is a FAILED point with its reason: no score is
    invented for it, and the search goes on. Ten failures in a row end the search.

    Args:
        score: called as `score(params)`, with {name: value} for every name of `space`; returns {name: value} or
            {name: (value, standard error)} with every objective and every name in a constraint, in any units, all
            finite; more names are kept with the point. Without a standard error a value counts as exact. With stages in
            the budget it is called as `score(params, items=range(...))`, and scores those items alone.
        space: name -> (low, high), (low, high, "log") with low > 0, both ends included, or a list of choices.
        objectives: name -> "max" or "min".
        constraints: "NAME <= NUMBER" or "NAME >= NUMBER", over any names that `score` returns. Points that break one
            keep out of the front but teach the sampler.
        budget: how many points to score, failed ones included; or rules, of which the first that is met ends the
            search (`search.stopping`): `candidates`, `wall_time` and `cost` (seconds, or "2h": of the whole study, and
            of scoring alone), `stagnation` ({"candidates": 40, "gain": 0.001}: no gain of hypervolume above that
            share over so many points). `candidate_time` (default "4h") is the limit of one call: then an exception is
            raised inside it; what does not end by that, compiled code say, is left behind in its thread.
            `stages` ([100, 500]) scores every point on the first 100 of 500 items, with standard errors, and on all
            500 only those that a model of all scores expects to add to the front (`search.racing.finals`). The items
            should stand in an order of which every beginning is like the whole. A point without its final is PRUNED.
        sampler: one of `mergefront methods`, or "package.module:function".
        seed: with the same seed, and a score that depends on its parameters alone, the same sequence of points.
        storage: a file, or a database URL (`postgresql://USER@HOST/DB?schema=NAME`), that holds this one study; what
            it holds already is not scored again. None: in memory.

    Returns:
        The study: every point in the order in which it was asked, the front, the hypervolume. Where no point is
        feasible, or failures ended the search, a warning says so.

    Raises:
        UserError: an argument that cannot be used; or a storage that holds another study, is in use by another
            process, or cannot be opened. Nothing was scored.
        DatabaseLost: the database did not come back; what it confirmed is kept.
    """
    question = asked.question(space, objectives, constraints, budget, sampler, seed)
    callable_with_items(score, question.stages)
    store = Store(asked.place(storage), owner=uuid.uuid4().hex)
    try:
        with held(store):
            store.create()
            asked.same_question(store, question)
            store.take_over()
            study = _run(score, question, store)
    finally:
        store.close()
    for line in study.warnings():
        warnings.warn(line, stacklevel=2)
    return study


def _run(score: Score, question: Question, store: Store) -> Study:
    subject = Subject(
        name=NAME,
        directions=tuple(question.objectives.values()),
        reference=None,
        candidate=question.candidate,
        scores=lambda outcome: question.scores(*outcome.value),
        keep=lambda point, outcome: None,
        observation=question.observation,
        stages=staged(question) if question.stages else None,
    )
    search = Search(subject, question.proposals(), store)
    pool = CallerPool(partial(made, score), question.candidate_time)
    store.start_clock()
    try:
        stop = drive(search, pool, question.rules, in_flight=lambda: 1, timeout_s=question.candidate_time)
    except SearchFailed as error:
        stop = Stop(FAILURES, str(error))
    finally:
        pool.close()
    return study_of(question, store, NAME, stop or Stop("taken over", "another process took the study over"))
