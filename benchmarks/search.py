"""How many evaluations each sampler needs to find the front.

    python -m benchmarks.search --out benchmarks/results/search.json [--seeds 10] [--quick] [--peers a,b] [--tasks t]

Every run of (task, peer, seed) is one line of `OUT.jsonl`, written when it ends; a run that is there already, made by
the same code, is not made again, so the benchmark can be stopped and started at any time. `OUT` is the summary.

Every figure is a true (noise-free) hypervolume divided by that of the true front, after n evaluations, of one of three
sets:

* `found`: all points scored; what the search could show if it knew the truth.
* `measured`: the points that no other one dominates by what was measured.
* `believed`: the points that no other one dominates by what a model of all scores believes (`search.samplers.believed`,
  the same model whatever sampler found them), for `auto` and `random`.

and from one of two reference points: `near`, the worst of the experts, and `wide`, a tenth of the range beyond it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import moocore
import numpy as np
from numpy.typing import NDArray

from search.results.history import machine
from search.samplers import History, Problem, believed
from search.samplers.auto import auto

from ._search_floor import fewest
from ._search_merges import Binomial, recorded, synthetic
from ._search_peers import make_peer
from ._search_plots import plot
from ._search_summary import ENOUGH, MARKS, STOPPING, budget, complete, reached, summary
from ._search_tables import write_tables
from ._search_tasks import Array, Task, bowls, dtlz2, simplex_bowls, volume, zdt

ROOT = Path(__file__).parent.parent
PEERS = (
    "auto",
    "qlognehvi",
    "tpe",
    "nsga2",
    "nsga3",
    "pymoo-nsga2",
    "pymoo-nsga3",
    "map",
    "cmaes",
    "qmc",
    "random",
    "gp",
)
SETS = ("found", "measured", "believed")
BELIEVING = ("auto", "random")
"""Peers whose points the model is asked about: it costs more than all else of a quick peer's run."""


def tasks() -> tuple[Task, ...]:
    """All problems; `tuning` marks those that `auto` was tuned on."""
    both = ((0, "mean"), (1, "mean"))
    return (
        bowls(2, 4, 0.01, seed=1, tuning=True),
        dtlz2(3, 6, 0.01, tuning=True),
        bowls(3, 12, 0.03, seed=2, tuning=True),
        synthetic("merge-objective-d4", seed=11, experts=2, groups=2, by="objective", tuning=True),
        synthetic("merge-objective-d12", seed=12, experts=4, groups=3, by="objective", tuning=True),
        synthetic("merge-language-k6", seed=13, experts=6, by="language", objectives=both, tuning=True),
        bowls(2, 2, 0.03, seed=3, tuning=False),
        zdt(1, 6, 0.0, tuning=False),
        zdt(2, 12, 0.01, tuning=False),
        zdt(3, 4, 0.01, tuning=False),
        dtlz2(4, 8, 0.01, tuning=False),
        bowls(2, 24, 0.01, seed=4, tuning=False),
        simplex_bowls(3, 6, 0.03, tuning=False),
        synthetic("merge-objective-d4b", seed=21, experts=2, groups=2, by="objective", tuning=False),
        synthetic("merge-objective-d8", seed=22, experts=2, groups=4, by="objective", tuning=False),
        synthetic("merge-objective-d12b", seed=23, experts=4, groups=3, by="objective", tuning=False),
        synthetic("merge-language-k6b", seed=24, experts=6, by="language", tuning=False),
        synthetic(
            "merge-worst-language-k6",
            seed=25,
            experts=6,
            by="language",
            objectives=((0, "mean"), (0, "min")),
            tuning=False,
        ),
        *recorded(),
    )


def best_volumes(task: Task, cache: Path) -> dict[str, float]:
    """Hypervolume of the true front from each reference point."""
    front = known_front(task, cache)
    return {name: volume(front, reference) for name, reference in task.references.items()}


def known_front(task: Task, cache: Path) -> Array:
    """Points (k, m) of the true front; searched for once where it is not known."""
    if task.front is not None:
        return task.front
    path = cache / f"{task.name}-{_fingerprint(task)}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, true_front(task))
    return np.asarray(np.load(path))


def fewest_of(task: Task, cache: Path) -> int | None:
    """Evaluations to 95 % (`near`) of who knows the true front."""
    starts = np.array(task.problem.starts).reshape(-1, task.problem.dimensions)
    front = known_front(task, cache)
    return fewest(task.truth(starts) if len(starts) else front[:0], front, task.references["near"], 0.95)


def true_front(task: Task) -> Array:
    """The front of the truth by NSGA-II (pymoo) on 300 x 400 noise-free evaluations, and two more with other seeds."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.optimize import minimize

    class Truth(PymooProblem):  # type: ignore[misc]  # pymoo ships no types
        def _evaluate(self, x: Array, out: dict[str, Any], *_: Any, **__: Any) -> None:
            out["F"] = -task.truth(x)

    found = [task.truth(np.array(task.problem.starts))]
    for seed in range(3):
        first = np.random.default_rng(seed).random((300, task.problem.dimensions))
        first[: len(task.problem.starts)] = task.problem.starts
        shape = Truth(n_var=task.problem.dimensions, n_obj=len(task.problem.directions), xl=0.0, xu=1.0)
        result = minimize(shape, NSGA2(pop_size=300, sampling=first), ("n_gen", 400), seed=seed)
        found.append(-result.F)
    values = np.concatenate(found)
    return np.asarray(values[moocore.is_nondominated(values, maximise=True)])


def run(task: Task, peer: str, seed: int, evaluations: int, best: dict[str, float]) -> dict[str, Any]:
    """One search: the share of the best hypervolume after each evaluation, and the time to propose."""
    search = make_peer(peer, task.problem, seed)
    rng = np.random.default_rng((seed, 77))
    x: list[Array] = []
    true: list[Array] = []
    values: list[Array] = []
    errors: list[Array] = []
    sets = SETS if peer in BELIEVING else SETS[:2]
    shares: dict[str, list[float | None]] = {f"{kind}-{name}": [] for kind in sets for name in task.references}
    seconds: list[float] = []
    for count in range(1, evaluations + 1):
        before = time.perf_counter()
        x.append(search.ask())
        seconds.append(time.perf_counter() - before)
        true.append(task.truth(x[-1][None])[0])
        value, error, parts = scored(task, x[-1], rng)
        values.append(value)
        errors.append(error)
        search.tell(x[-1], value, error, parts)
        truth, measured = np.array(true), np.array(values)
        found = [volume(truth, reference) / best[name] for name, reference in task.references.items()]
        enough = peer in STOPPING and min(found) >= ENOUGH
        model = None
        if peer in BELIEVING and (count in MARKS or count == evaluations or enough):
            model = believed(task.problem, np.array(x), measured, np.array(errors))
        for (name, reference), share in zip(task.references.items(), found, strict=True):
            shares[f"found-{name}"].append(round(share, 4))
            shares[f"measured-{name}"].append(round(volume(truth[shown(measured)], reference) / best[name], 4))
            if peer in BELIEVING:
                ours = None if model is None else round(volume(truth[shown(model)], reference) / best[name], 4)
                shares[f"believed-{name}"].append(ours)
        if enough:
            break
    return {
        "shares": shares,
        "propose_seconds_median": round(statistics.median(seconds), 4),
        "propose_seconds_max": round(max(seconds), 4),
    }


def scored(task: Task, x: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Values, standard errors, and the parts of objectives that have some."""
    if isinstance(task.measure, Binomial):
        return task.measure.scores(x, rng)
    return *task.measure(x, rng), np.zeros((0, 2))


def shown(values: Array) -> NDArray[np.bool_]:
    """Which points no other one dominates by the values given."""
    return np.asarray(moocore.is_nondominated(values, maximise=True, keep_weakly=True))


def propose_seconds() -> dict[str, float]:
    """CPU seconds of one question to `auto`: median of three, by scored points, dimensions and objectives.

    Every third question is asked twice where little is promised: `in doubt` is the median where all are.
    """
    found: dict[str, float] = {}
    cases = ((40, 4, 2), (80, 12, 3), (500, 24, 2), (500, 24, 4))
    for (points, dimensions, objectives), doubt in itertools.product(cases, (False, True)):
        rng = np.random.default_rng(0)
        x, centres = rng.random((points, dimensions)), rng.random((objectives, dimensions))
        values = -((x[:, None] - centres) ** 2).sum(axis=2) + 0.01 * rng.normal(size=(points, objectives))
        errors, none = np.full(values.shape, 0.01), np.zeros((points, 0))
        history = History(x, values, errors, none, np.arange(points))
        problem, pending = Problem(dimensions, ("max",) * objectives), rng.random((2, dimensions))
        times = []
        for number in range(3):
            before = time.process_time()
            with patch("search.samplers.auto.LITTLE", np.inf if doubt else 0.0), patch("search.samplers.auto.DOUBT", 1):
                auto(problem, history, pending, 0, points + number)
            times.append(time.process_time() - before)
        name = f"{points} points, {dimensions} dimensions, {objectives} objectives{', in doubt' if doubt else ''}"
        found[name] = round(statistics.median(times), 3)
    return found


SOURCES = {
    "auto": ("search/samplers/auto.py", "search/samplers/qmc.py", "search/samplers/_[a-z]*.py"),
    "map": ("search/samplers/map.py", "search/samplers/qmc.py", "search/samplers/_features.py"),
    "qlognehvi": ("benchmarks/_search_botorch.py",),
    "pymoo-nsga2": ("benchmarks/_search_pymoo.py",),
    "pymoo-nsga3": ("benchmarks/_search_pymoo.py",),
}


def version(peer: str, task: Task) -> str:
    """Of the code that decides a run and of the problem itself: what changed is run again; comments do not count."""
    patterns = SOURCES.get(peer, (f"search/samplers/{peer}.py",))
    files = sorted(file for pattern in patterns for file in ROOT.glob(pattern))
    assert files, peer
    digest = hashlib.sha256(_fingerprint(task).encode())
    for file in files:
        digest.update(_code(file).encode())
    return digest.hexdigest()[:12]


def _code(file: Path) -> str:
    """Source without comments, layout and docstrings."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Pass()
    return ast.unparse(tree)


def _fingerprint(task: Task) -> str:
    """Of a problem: its truth, scores and starts, rounded so that another CPU's last digits do not count."""
    x = np.random.default_rng(0).random((16, task.problem.dimensions))
    scores = [np.concatenate(task.measure(row, np.random.default_rng(i))) for i, row in enumerate(x)]
    parts = [task.truth(x), np.array(scores), np.array(task.problem.starts), np.array(task.problem.reference)]
    return hashlib.sha256(json.dumps([task.name, *[np.round(p, 6).tolist() for p in parts]]).encode()).hexdigest()[:16]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--seeds", type=int, default=10)
    arguments.add_argument("--first-seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true", help="3 seeds, tuning problems, quick peers")
    arguments.add_argument("--peers", default=",".join(PEERS))
    arguments.add_argument("--tasks", default="", help="parts of names, or `tuning` or `held-out`")
    arguments.add_argument("--docs", type=Path, help="folder for plots and tables; with --seeds 0 nothing is run")
    options = arguments.parse_args()
    peers = options.peers.split(",")
    wanted = [task for task in tasks() if _wanted(task, options.tasks)]
    if options.quick:
        peers = [peer for peer in peers if peer not in ("qlognehvi", "gp")]
        wanted, options.seeds = [task for task in wanted if task.tuning], min(3, options.seeds)
    lines = options.out.with_suffix(".jsonl")
    lines.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {(row["task"], row["peer"], row["seed"], row["version"]) for row in rows if complete(row)}
    cache = ROOT / "benchmarks" / "landscapes" / "fronts"
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for task in wanted:
            best = best_volumes(task, cache)
            for peer in peers:
                key = (task.name, peer, seed, version(peer, task))
                if key in done:
                    continue
                row = dict(zip(("task", "peer", "seed", "version"), key, strict=True))
                row |= run(task, peer, seed, budget(peer, task.name), best)
                with lines.open("ab", buffering=0) as file:
                    file.write((json.dumps(row) + "\n").encode())  # one write: another process may append too
                near = row["shares"]["found-near"]
                print(
                    f"{task.name} {peer} {seed}: 95% at {reached(near, 0.95)}, {near[-1]:.3f} at {len(near)}, "
                    f"{row['propose_seconds_median']:.2f} s",
                    flush=True,
                )
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    known = {task.name: task for task in tasks()}
    now = {(task.name, peer): version(peer, task) for task in known.values() for peer in PEERS}
    current = [row for row in rows if now.get((row["task"], row["peer"])) == row["version"] and complete(row)]
    result = {"machine": machine(), "propose_seconds": propose_seconds(), **summary(current, known)}
    for name, problem in result["problems"].items():
        problem["fewest"] = fewest_of(known[name], cache)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.docs:
        plot(current, result["problems"], options.docs)
        write_tables(result, options.docs / "figures.md")


def _wanted(task: Task, names: str) -> bool:
    if names in ("tuning", "held-out"):
        return task.tuning == (names == "tuning")
    return not names or any(part in task.name for part in names.split(","))


if __name__ == "__main__":
    main()
