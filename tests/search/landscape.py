"""A known landscape for the search: two experts, Bernoulli items whose success rate depends on the weights alone.

Scoring runs in the pool like the real thing does and returns per-item results; only the model is replaced, by a rate
that is known exactly: general ability falls, and safety rises, with the safety expert's share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.local import LocalPool
from evaluators._types import Item
from mergers._schema import load_method
from mergers._spec import weights
from search.run.items import scores_of
from search.scoring.objective import AS_IT_IS, Answer, Grader, Job
from search.space import space_of
from search.stopping import Rules
from search.store import Store
from search.study import SearchPlan, run_search

OBJECTIVES = (("general", "max"), ("safety", "max"))
ITEMS = 60
TOKENS = 7
"""For each item."""
LANGUAGES = ("en", "hi")


def graders() -> tuple[Grader, ...]:
    def items(name: str) -> tuple[Item, ...]:
        return tuple(
            Item(f"{name}-{split}-{i}", "", "", LANGUAGES[i % 2], f"g{i // 2}", "", split)
            for split in ("search", "report")
            for i in range(ITEMS)
        )

    return tuple(Grader(name, "exact_match", (), items(name)) for name, _ in OBJECTIVES)


@dataclass(frozen=True)
class Landscape:
    """Scores a job; `poison`: merges of this many decimals in the last weight raise or return NaN."""

    raise_above: float = 2.0
    nan_above: float = 2.0
    log: str = ""

    def __call__(self) -> Any:
        return self.answer

    def answer(self, job: Job) -> Answer:
        results = self.score(job)
        return Answer(results, TOKENS * sum(map(len, results.values())))

    def score(self, job: Job) -> dict[str, Any]:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{job.merge.method} {job.merge.params} {job.split}\n")
        share = safety_share(job)
        if share > self.raise_above:
            raise RuntimeError("the model fell over\nwith a long story")
        rates = {"general": 0.9 - 0.5 * share**2, "safety": 0.1 + 0.85 * share}
        uniform = (np.arange(ITEMS) + 0.5) / ITEMS
        results = {name: (uniform < rate).astype(np.float32) for name, rate in rates.items()}
        if share > self.nan_above:
            results["safety"][0] = np.nan
        return results


def safety_share(job: Job) -> float:
    if job.merge == AS_IT_IS:
        return {"base": 0.3, "general": 0.0, "safety": 1.0}[job.experts[0]]
    return float(min(1.0, max(0.0, weights(job.merge, 2)[1])))


def plan(folder: Path, method: str = "linear", **changes: Any) -> SearchPlan:
    folder.joinpath("items").mkdir(exist_ok=True)
    landscape = Landscape()
    unmerged = tuple(
        (name, tuple(scores_of(landscape.score(Job(AS_IT_IS, (name,), "search")), graders(), "search").items()))
        for name in ("base", "general", "safety")
    )
    settings: dict[str, Any] = {
        "name": method,
        "space": space_of(load_method(method), ("general", "safety"), coefficients="free", seed=0),
        "paths": ("general", "safety"),
        "hashes": ("aa", "bb"),
        "objectives": OBJECTIVES,
        "constraints": (),
        "sampler": "auto",
        "rules": Rules(candidates=12),
        "in_flight": 2,
        "seed": 7,
        "graders": graders(),
        "items": folder / "items",
        "reference": (0.0, 0.0),
        "unmerged": unmerged,
    }
    return SearchPlan(**(settings | changes))


def store_in(folder: Path, owner: str = "first") -> Store:
    store = Store(folder / "study.db", owner=owner)
    store.create()
    return store


def search_in(folder: Path, wanted: SearchPlan, landscape: Landscape | None = None) -> Store:
    store = store_in(folder)
    run_search(wanted, LocalPool(landscape or Landscape()), store)
    return store
