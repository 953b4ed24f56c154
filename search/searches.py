"""Stage 2: one Optuna search for each merge method, each a Ray Tune trial that reports its hypervolume.

The searches share one pool of evaluator actors; a search itself needs next to no CPU. They share the candidates too:
a method whose hypervolume lags is stopped (`search.racing.method_race`), and the others take what it leaves. With
`scheduler: fair` each has an equal share.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ._space.layers import run_groups
from ._training.execute import fresh
from .experts import Model
from .racing.method_race import LAGGING, Standings, race_methods, scheduler, standings
from .run.progress import Display
from .run.rundir import Run, log
from .scoring.objective import Grader
from .space import space_of
from .study import SearchFailed, SearchPlan, run_search

if TYPE_CHECKING:
    from cluster.pool import Pool
    from cluster.trials import TrialOutcome

    from .store import Store

SEARCH_LIMIT_S = 14 * 24 * 3600.0


class SearchesFailed(RuntimeError):
    """Searches that ended early, one line each; every scored candidate is kept."""


def plan_searches(run: Run, models: Sequence[Model], graders: Sequence[Grader]) -> tuple[SearchPlan, ...]:
    """One plan for each method of the recipe, over the models that the recipe names for the search.

    Args:
        run: whose database holds the scores of the unmerged models.
        models: base, experts and baselines.
        graders: evaluators with their items.
    """
    from mergers._schema import load_method

    recipe = run.recipe
    by_name = {model.name: model for model in models}
    experts = tuple(by_name[name] for name in recipe.search.experts)
    scores = run.store.scores("search")
    unmerged = tuple((name, tuple(scores[name].items())) for name in ("base", *recipe.search.experts))
    methods = recipe.search.methods
    groups = run_groups(recipe, run.store, by_name["base"], experts)
    plans = []
    total, racing = recipe.search.candidates, race_methods(recipe)
    limits = [(total, float(total)) if racing else (share, math.inf) for share in shares(total, len(methods))]
    for index, (name, limit) in enumerate(zip(methods, limits, strict=True)):
        space = space_of(
            load_method(name),
            recipe.search.experts,
            coefficients=recipe.search.coefficients,
            seed=recipe.seed,
            groups=groups,
            grid=recipe.grid,
        )
        plans.append(
            SearchPlan(
                name=name,
                space=space,
                paths=tuple(model.reference for model in experts),
                hashes=tuple(model.hash for model in experts),
                objectives=tuple(recipe.search.objectives.items()),
                constraints=tuple(recipe.search.constraints),
                sampler=recipe.search.sampler,
                rules=recipe.search.stop.rules(*limit),
                seed=recipe.seed * 1000 + index,
                graders=tuple(graders),
                items=run.items,
                reference=tuple(run.store.get("reference")),
                unmerged=unmerged,
                stages=recipe.search.stages,
                drop_above=recipe.search.drop_above,
            )
        )
    return tuple(plans)


def shares(total: int, parts: int) -> tuple[int, ...]:
    """`total` cut into `parts` whole numbers as equal as can be, the larger first."""
    return tuple(total // parts + (index < total % parts) for index in range(parts))


def search_under_tune(run: Run, plans: Sequence[SearchPlan], pool: Pool, display: Display) -> None:
    """Run the searches that have candidates left, each as one Ray Tune trial.

    A search whose candidates fail one after the other has ended, with its reason kept; the others go on.

    Raises:
        SearchesFailed: a search was interrupted (a later run goes on with it), or every search ended that way.
    """
    import ray

    from cluster.pool import beside_the_driver
    from cluster.trials import run_trials

    open_plans = share_workers(
        unfinished(run.store, plans),
        max(pool.size, 2 if pool.grows else 1),
        task_s=run.recipe.cluster.evaluators.task_timeout,
    )
    names = [plan.name for plan in open_plans]
    racing = standings(run.store, plans, names) if race_methods(run.recipe) and len(names) > 1 else None
    with display.bars():
        bars = {plan.name: display.bar(plan.name, plan.rules.candidates) for plan in open_plans}

        def live(index: int, metrics: Mapping[str, Any]) -> None:
            if "hypervolume" in metrics:
                bar = bars[open_plans[index].name]
                bar.update(metrics["evaluated"], f"hypervolume {metrics['hypervolume']:.4f}")

        def ended(outcome: TrialOutcome) -> None:
            if outcome.stopped and racing is not None:
                _lagged(run, open_plans[outcome.index].name, racing, display)

        outcomes = run_trials(
            partial(_trial, plans=ray.put(open_plans), pool=pool, store=run.store),
            [{"index": index, "search": plan.name} for index, plan in enumerate(open_plans)],
            name="search",
            storage=fresh(run.scratch / "tune"),
            resources=[beside_the_driver()],  # no CPU of the workers; and any other node may be lost without a search
            concurrency=len(open_plans),
            on_report=live,
            on_result=ended,
            scheduler=None if racing is None else scheduler(racing, names, run.store),
            time_limit_s=SEARCH_LIMIT_S,
        )
    gave_up, interrupted = [], []
    for plan, outcome in zip(open_plans, outcomes, strict=True):
        if outcome.stopped:
            run.store.forget(plan.name)  # again: its process may have lived on for a moment
        if outcome.error is None:
            continue
        log(run, "search failed", search=plan.name, error=outcome.error)
        if outcome.error.startswith(f"{SearchFailed.__name__}:"):
            run.store.log("gave up", search=plan.name, reason=outcome.error)
            display.line(f"  {plan.name}: {outcome.error}")
            gave_up.append(outcome.error)
        else:
            interrupted.append(f"{plan.name}: {outcome.error}")
    if interrupted or len(gave_up) == len(plans):
        raise SearchesFailed("\n".join(interrupted or gave_up))


def _lagged(run: Run, name: str, racing: Standings, display: Display) -> None:
    run.store.forget(name)  # before the event: a search with candidates under way has not ended
    rung, volume = racing.lagged[name]
    reason = f"after {rung} candidates its hypervolume {volume:.4g} was in the lower half of the methods"
    run.store.log("stopped", search=name, rule=LAGGING, reason=reason, rules="")
    display.line(f"  {name}: stopped, {reason}; the others have its candidates")


def share_workers(plans: Sequence[SearchPlan], workers: int, task_s: float = 4 * 3600.0) -> list[SearchPlan]:
    """The plans with their share of candidates under way: one more than the workers, over all searches together.

    So no worker waits for a search to think, and no search proposes much before it has seen the last results. What a
    search that ends had under way is then the others' to have; not with one worker, where a search that was killed asks
    for the same candidates as one that was not.
    """
    # A candidate may have to wait for all others that are under way, on one last worker.
    limit_s = task_s * (workers + 1 + len(plans) + 1)
    names, now = {plan.name for plan in plans}, time.time()
    return [
        replace(
            plan,
            in_flight=workers + 1 if workers > 1 else -(-2 // max(1, len(plans))),
            beside=tuple(sorted(names - {plan.name})) if workers > 1 else (),
            since=now,
            candidate_timeout_s=limit_s,
        )
        for plan in plans
    ]


def unfinished(store: Store, plans: Sequence[SearchPlan]) -> list[SearchPlan]:
    """The searches that no rule of today has ended; one with a candidate that a kill interrupted has not ended."""
    points = store.points()
    counts = Counter(point.search for point in points if point.state != "RUNNING")
    interrupted = {point.search for point in points if point.state == "RUNNING"}
    gave_up = {event["search"] for event in store.events("gave up")}
    events = store.events("stopped")
    stopped = {(event["search"], event["rules"]) for event in events}
    lagging = {event["search"] for event in events if event["rule"] == LAGGING}

    def ended(plan: SearchPlan) -> bool:
        full = counts[plan.name] >= plan.rules.candidates or sum(counts[p.name] for p in plans) >= plan.rules.shared
        full = full and plan.stages == (1.0,)  # with stages a final follows, and then the event
        gone = plan.name in gave_up or (plan.name in lagging and plan.rules.shared < math.inf)
        return full or gone or (plan.name, repr(plan.rules)) in stopped

    return [plan for plan in plans if plan.name in interrupted or not ended(plan)]


def _trial(
    config: dict[str, Any],
    report: Callable[[Mapping[str, float]], None],
    *,
    plans: Any,
    pool: Pool,
    store: Store,
) -> None:
    """The body of one Tune trial: one whole search."""
    import ray

    run_search(ray.get(plans, timeout=300)[config["index"]], pool, store, report)
