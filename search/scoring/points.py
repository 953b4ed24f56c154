"""Scoring points one by one on a pool: the unmerged models before the search, the front after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.pool import Outcome, Pool
from search.run import items
from search.run.progress import Bar
from search.run.rundir import Run, log

from .objective import Grader, Job

SCORE_LIMIT_S = 5 * 3600.0  # until the next of several outcomes; beyond the pool's limit for one task


class ScoringFailed(RuntimeError):
    """A model of the recipe that cannot be scored, with its reason."""


@dataclass(frozen=True)
class Target:
    """A point to score: its id in the database and the job that scores it."""

    point: str
    job: Job


def score_models(run: Run, pool: Pool, targets: Sequence[Target], graders: Sequence[Grader], bar: Bar) -> None:
    """Score unmerged models on the search split and complete their rows.

    Raises:
        ScoringFailed: one of them cannot be scored; a front without it would be a lie.
    """
    failed = []
    for done, outcome in enumerate(_outcomes(pool, targets), 1):
        error = outcome.error
        if error is None:
            try:
                scores = items.scores_of(outcome.value.results, graders, "search")
            except ValueError as problem:
                error = str(problem)
        if error is not None:
            run.store.fail(str(outcome.ticket), outcome.seconds, error)
            failed.append(f"{outcome.ticket}: {error}")
            log(run, "scoring failed", point=outcome.ticket, error=error, trace=outcome.trace)
            continue
        items.write_items(run.items, str(outcome.ticket), "search", outcome.value.results, graders)
        run.store.finish(str(outcome.ticket), outcome.seconds, "search", scores, tokens=outcome.value.tokens)
        bar.update(done, f"{outcome.ticket} in {outcome.seconds:.1f} s")
    if failed:
        raise ScoringFailed("\n".join(failed))


def confirm(run: Run, pool: Pool, targets: Sequence[Target], graders: Sequence[Grader], bar: Bar) -> None:
    """Score points again on the report split; the scores of the search stay beside the new ones.

    Raises:
        ScoringFailed: a point that was scored before cannot be scored now.
    """
    failed = []
    for done, outcome in enumerate(_outcomes(pool, targets), 1):
        if outcome.error is not None:
            failed.append(f"{outcome.ticket}: {outcome.error}")
            log(run, "confirmation failed", point=outcome.ticket, error=outcome.error, trace=outcome.trace)
            continue
        scores = items.scores_of(outcome.value.results, graders, "report")
        items.write_items(run.items, str(outcome.ticket), "report", outcome.value.results, graders)
        run.store.add_scores(str(outcome.ticket), "report", scores)
        bar.update(done)
    if failed:
        raise ScoringFailed("\n".join(failed))


def _outcomes(pool: Pool, targets: Sequence[Target]) -> Iterable[Outcome]:
    for target in targets:
        pool.submit(target.point, target.job)
    left = len(targets)
    while left:
        for outcome in pool.collect(SCORE_LIMIT_S):
            left -= 1
            yield outcome
