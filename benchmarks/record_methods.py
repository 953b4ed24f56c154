"""Record searches of single merge methods on the demo world, for the benchmark of methods that race methods.

    OMP_NUM_THREADS=1 python -m benchmarks.record_methods --work DIR [--seeds 3] [--candidates 32] [--out FILE]
    OMP_NUM_THREADS=1 python -m benchmarks.record_methods --work DIR --methods task_arithmetic --candidates 64

The demo's own recipe: its experts are trained once, then each method is searched alone, for each seed, by the product's
sampler over real merges and real evaluations, one candidate under way. A search depends on its own history alone, so
what it would do when others are stopped, or take its candidates, is what is recorded here. The searches are studies in
`DIR`: the recording goes on where it was stopped. `--out` holds the objectives of every candidate in the order of
scoring, and the seconds that each took.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.local import LocalPool
from search import experts
from search.demo.world import write_world
from search.experts import Model
from search.pipeline import run_recipe
from search.recipe import Recipe, load_recipe
from search.results.history import machine
from search.run.progress import Display
from search.run.rundir import Run, read_run
from search.scoring.graders import load_graders
from search.scoring.objective import Grader, ScorerFactory
from search.searches import plan_searches
from search.statistics.aggregates import objective_scores
from search.stopping import Rules
from search.store import Store
from search.study import SearchPlan, run_search

RESULTS = Path("benchmarks/results/methods_recorded.json")
METHODS = 5  # of the demo's recipe


def prepared(work: Path) -> Path:
    """A run of the demo's recipe with its experts trained and the unmerged models scored; made once."""
    world, run = work / "world", work / "run"
    if not world.exists():
        recipe = write_world(work / "world.part", candidates=METHODS)
        text = recipe.read_text(encoding="utf-8")
        recipe.write_text(re.sub(r"(?ms)^baselines:.*?(?=^# How a model)", "", text), encoding="utf-8")
        recipe.parent.rename(world)
    # One merge of each method: the search ends as soon as the models that are always scored have their scores.
    run_recipe(load_recipe(world / "recipe.yaml"), run, Display(quiet=True), until="search")
    return run


def plans(path: Path, seed: int) -> tuple[tuple[SearchPlan, ...], tuple[Grader, ...], Sequence[Model], Recipe]:
    """The searches that a run of this seed would have."""
    with read_run(path) as opened:
        hashes = experts.input_hashes(opened.recipe)
        models = experts.models(opened.recipe, opened.experts, hashes)
        graders = load_graders(opened.recipe)
        recipe = opened.recipe.model_copy(update={"seed": seed})
        return plan_searches(Run(path, recipe, opened.store), models, graders), graders, models, recipe


def record(plan: SearchPlan, pool: LocalPool, folder: Path, candidates: int) -> list[list[float]]:
    """The objectives of a search's candidates in order, each with its seconds; at least so many are recorded then."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "study.db")
    try:
        store.create()
        mine = replace(plan, items=folder, rules=Rules(candidates=candidates), in_flight=1)
        if candidates:
            run_search(mine, pool, store)
        scores = store.scores("search")
        points = sorted((p for p in store.points(plan.name) if p.turn is not None), key=lambda point: point.turn or 0)
        return [
            [
                *(round(s.value, 6) for s in objective_scores(dict(plan.objectives), scores[point.id]).values()),
                round(point.seconds or 0.0, 3),
            ]
            for point in points
        ]
    finally:
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=32, help="of each method; 0: only write what is recorded")
    parser.add_argument("--methods", default="", help="the others stay as they are recorded; default: all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    run = prepared(options.work)
    pool: LocalPool | None = None
    found: dict[int, dict[str, list[list[float]]]] = {}
    for seed in range(options.seeds):
        found[seed] = {}
        for plan in plans(run, seed)[0]:
            if pool is None:
                _, graders, models, recipe = plans(run, seed)
                factory = ScorerFactory(str(models[0].path), graders, recipe.export.dtype)
                pool = LocalPool(factory)
            start = time.perf_counter()
            folder = options.work / "searches" / f"{seed}-{plan.name}"
            more = not options.methods or plan.name in options.methods.split(",")
            found[seed][plan.name] = record(plan, pool, folder, options.candidates if more else 0)
            print(f"seed {seed}, {plan.name}: {time.perf_counter() - start:.0f} s", flush=True)
            _write(options.out, plan, found)


def _write(out: Path, plan: SearchPlan, found: dict[int, dict[str, list[list[float]]]]) -> None:
    unmerged = [
        [round(s.value, 6) for s in objective_scores(dict(plan.objectives), dict(scores)).values()]
        for _, scores in plan.unmerged
    ]
    items = sum(len(grader.split("search")) for grader in plan.graders)
    content: dict[str, Any] = {
        "machine": machine(),
        "objectives": dict(plan.objectives),
        "reference": plan.reference,
        "unmerged": unmerged,
        "items": items,
        "searches": found,
    }
    text = json.dumps(content, indent=1)
    out.write_text(re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n")


if __name__ == "__main__":
    main()
