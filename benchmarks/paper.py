"""The grid of "Mix Data or Merge Models?" (arXiv:2410.10801) on the demo world: runs, figures, tables.

    python -m benchmarks.paper --work runs/paper --out benchmarks/results/paper.json --document docs/paper-demo.md

Runs examples/paper-demo.yaml once for each seed (seed of data order, of trainings and of the searches; base model and
scored items are the same), goes on with what is there, and writes what the runs measured: JSON, and the document.
Of each merge method it takes the knee of the method's merges on the search split, and scores that on the report split.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mergefront
from search.api import confirm
from search.experts import Model, needed, plan, record_of
from search.results.history import machine
from search.run.items import read_values
from search.run.rundir import Run, contents_of, read_run
from search.statistics import front

from ._paper_tables import document

RECIPE = Path(__file__).parent.parent / "examples" / "paper-demo.yaml"
SEEDS = (0, 1, 2)
METHODS = ("linear", "slerp", "ties", "dare_ties")
SEARCHES = {"sft": "searches/objective-sft", "dpo": ""}
"""Stage -> where the run of its objective merge lies below the whole run."""


def carry_out(work: Path, seed: int) -> Path:
    """Run the recipe for one seed, or go on with it; the run directory."""
    world, run = work / f"world-{seed}", work / f"run-{seed}"
    if not (world / "recipe.yaml").is_file():
        mergefront.write_demo(world, seed=seed)
    text = re.sub(r"(?m)^seed: \d+$", f"seed: {seed}", RECIPE.read_text(encoding="utf-8"))
    (world / "paper.yaml").write_text(text, encoding="utf-8")
    mergefront.run(world / "paper.yaml", out=run)
    return run


def figures(run: Path) -> dict[str, Any]:
    """Everything that the tables of one seed need: label -> figures of one model."""
    found: dict[str, Any] = {}
    for stage, folder in SEARCHES.items():
        chosen = of_methods(run / folder)
        confirm(run / folder, tuple(chosen.values()))
        with read_run(run / folder) as opened:
            for method, point in chosen.items():
                found[f"{stage}:{method}"] = measured(opened, point) | {"flops": merged_flops(opened), "point": point}
    with read_run(run) as opened:
        known = plan(opened.recipe, opened.experts, contents_of(opened.path))
        for model in known:
            if model.kind in ("base", "expert", "baseline"):
                found[model.name] = measured(opened, model.name) | {"flops": flops(known, model.name)}
        knee = mergefront.front(run)["picks"]["knee"]
        found["merge-dpo-search"] = measured(opened, knee) | {"flops": merged_flops(opened)}
        found["seconds"] = sum(event["seconds"] for event in opened.store.events("stage"))
    return found


def of_methods(run: Path) -> dict[str, str]:
    """Method -> id of the knee among its own merges, on the search split."""
    found = {}
    with read_run(run) as opened:
        scores = opened.store.scores("search")
        points = [point for point in opened.store.points() if point.kind == "merge" and point.state == "COMPLETE"]
        for method in METHODS:
            mine = [point.id for point in points if point.method == method]
            values = np.array([[scores[p][name, ""].value for name in ("general", "safety")] for p in mine])
            ways = ("max", "max")
            found[method] = mine[front.knee(values, ways, front.non_dominated(values, ways))]
    return found


def measured(run: Run, point: str) -> dict[str, float]:
    """Report-split figures of a point: the paper's two, and those that they are made of.

    `harm_change` is the change of the share of harmful prompts that are not refused, in percent of the base's.
    `win_rate` is the share of general items on which it is right and the base is not, ties counting half, in percent.
    """
    mine, base = read_values(run.items, point, "report"), read_values(run.items, "base", "report")
    harm, before = 1.0 - float(mine["safety"].mean()), 1.0 - float(base["safety"].mean())
    wins = np.where(mine["general"] > base["general"], 1.0, np.where(mine["general"] < base["general"], 0.0, 0.5))
    return {
        "harm_change": 100.0 * (harm - before) / before,
        "win_rate": 100.0 * float(wins.mean()),
        "general": 100.0 * float(mine["general"].mean()),
        "safety": 100.0 * float(mine["safety"].mean()),
        "over_refusal": 100.0 * float(mine["over_refusal"].mean()),
    }


def flops(known: tuple[Model, ...], name: str) -> float:
    """Estimated operations of all trainings that a model is made of, each once."""
    return math.fsum(record["flops"] for m in needed(known, [name]) if (record := record_of(m)) is not None)


def merged_flops(run: Run) -> float:
    """The same of a merge: of all experts of its search."""
    known = plan(run.recipe, run.experts, contents_of(run.path))
    models = needed(known, run.recipe.search.experts)
    return math.fsum(record["flops"] for model in models if (record := record_of(model)) is not None)


def rows(seeds: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, list[float]]]:
    """(label, figure, one value for each seed)."""
    first = next(iter(seeds.values()))
    for label, held in first.items():
        if isinstance(held, dict):
            for name, value in held.items():
                if isinstance(value, float):
                    yield label, name, [seed[label][name] for seed in seeds.values()]


def main() -> None:
    """Run, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/paper"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/paper.json"))
    parser.add_argument("--document", type=Path, default=Path("docs/paper-demo.md"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    seeds = {str(seed): figures(carry_out(options.work.absolute(), seed)) for seed in options.seeds}
    table: dict[str, dict[str, list[float]]] = {}
    for label, name, values in rows(seeds):
        table.setdefault(label, {})[name] = values
    result = {"recipe": str(RECIPE.name), "seeds": options.seeds, "machine": machine(), "figures": table}
    result["seconds"] = [seed["seconds"] for seed in seeds.values()]
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    options.document.write_text(document(result), encoding="utf-8")


if __name__ == "__main__":
    main()
