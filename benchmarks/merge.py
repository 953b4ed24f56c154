"""Merges against mergekit and against the speed of memory.

    python -m benchmarks.merge --work DIR --out benchmarks/results/merge.json [cold] [memory] [scaling] [kernels]

* cold: files to files, both programs in turn, each in a fresh process (imports excluded), inputs in the page cache, at
  350 M parameters and six experts; the methods without a goal of their own at 100 M.
* memory: candidates over a live model by the `Materializer`, against a copy that moves the same number of bytes.
* scaling: time over four sizes and over 2 to 12 experts.
* kernels: what the fused loops cost by themselves, in cache and from memory.

mergekit runs with `dtype: bfloat16`, as its users do; ours computes in float32. Results of deterministic methods are
compared in tests, not here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks._models import make
from search.results.history import machine

BIG, MEDIUM = 3.5e8, 1e8
EXPERTS = 6
DRAWN = {"weight": 0.3, "density": 0.5}
METHODS: Mapping[str, dict[str, Any]] = {
    "linear": {"weight": 0.3},
    "slerp": {"t": 0.4},
    "task_arithmetic": {"weight": 0.3},
    "ties": DRAWN,
    "dare_ties": DRAWN,
    "dare_linear": DRAWN,
    "breadcrumbs": DRAWN,
    "breadcrumbs_ties": DRAWN,
    "della": DRAWN,
    "della_linear": DRAWN,
    "nuslerp": {"weight": 0.5},
    "multislerp": {"weight": 0.3},
    "karcher": {},
    "sce": {"select_topk": 0.5},
    "model_stock": {},
    "nearswap": {"t": 0.001},
    "arcee_fusion": {},
    "ram": {},
}
"""Every method that mergekit has too, with its parameters."""

PAIRS = ("slerp", "nuslerp")
ONE = ("nearswap", "arcee_fusion")
NO_BASE = ("linear", "nuslerp", "multislerp", "karcher")
IN_BIG = ("linear", "slerp", "dare_ties", "ties")
FUSED = (
    "linear",
    "task_arithmetic",
    "slerp",
    "ties",
    "dare_linear",
    "dare_ties",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
)
_TOUCHED = 6 << 30  # bytes; about what mergekit takes
GOALS = {"linear": 3.0, "slerp": 3.0, "dare_ties": 15.0, "ties": 20.0}


def merge_text(method: str, base: Path, experts: Sequence[Path]) -> str:
    """The merge as mergekit's YAML."""
    used = [str(base), str(experts[0])] if method == "slerp" else [str(x) for x in experts]
    used = used[: 2 if method in PAIRS else 1 if method in ONE else len(used)]
    fields: dict[str, Any] = {
        "merge_method": method,
        "models": [{"model": model} for model in used],
        "dtype": "bfloat16",
    }
    if method not in NO_BASE:
        fields["base_model"] = str(base)
    if METHODS[method]:
        fields["parameters"] = METHODS[method]
    return yaml.safe_dump(fields, sort_keys=False)


def cold(work: Path, repeat: int, methods: Sequence[str]) -> dict[str, Any]:
    """Both programs in turn on every method; ratios of medians."""
    found: dict[str, Any] = {}
    for method in methods:
        size = BIG if method in IN_BIG else MEDIUM
        base, experts, parameters = make(work / f"{size / 1e6:.0f}M", size, EXPERTS)
        file = work / f"{method}.yaml"
        file.write_text(merge_text(method, base, experts))
        runs: dict[str, list[dict[str, float]]] = {"mergefront": [], "mergekit": []}
        for round_ in range(repeat):
            # Programs in turn, each beginning every other time; both find the inputs in the page cache.
            for program in sorted(runs, reverse=bool(round_ % 2)):
                _warm((base, *experts))
                runs[program].append(_once(program, file, work / "out"))
        ours, theirs = (statistics.median(run["seconds"] for run in runs[p]) for p in ("mergefront", "mergekit"))
        found[method] = {"parameters": parameters, "runs": runs, "ratio": theirs / ours, "goal": GOALS.get(method, 2.0)}
        peak = max(run["beyond_mb"] for run in runs["mergefront"])
        shown = f"ours {ours:7.2f} s  mergekit {theirs:7.2f} s  ratio {theirs / ours:6.1f}"
        print(f"{method:<18} {shown}  peak {peak:5.0f} MB")
    return found


def _warm(folders: Sequence[Path]) -> None:
    """Bring the inputs into the page cache, and memory to a virtual machine that gives idle memory back to its host."""
    import numpy as np

    np.empty(_TOUCHED, np.uint8)[::4096] = 1
    for file in (file for folder in folders for file in sorted(folder.glob("*.safetensors"))):
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 24):
                pass


def _once(program: str, file: Path, out: Path) -> dict[str, float]:
    shutil.rmtree(out, ignore_errors=True)
    env = dict(os.environ, OMP_NUM_THREADS="2", HF_HUB_OFFLINE="1")
    command = [sys.executable, "-m", "benchmarks._cold", program, str(file), str(out)]
    start = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800, check=False)
    process = time.perf_counter() - start
    shutil.rmtree(out, ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{program} failed on {file}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result | {"process_seconds": process}


def timed(work: Callable[[], object], repeat: int) -> list[float]:
    """Seconds of each of `repeat` calls, after one that is not counted."""
    work()
    found = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return found


def in_memory(
    work: Path, parameters: float, count: int, methods: Sequence[str], threads: int, repeat: int
) -> dict[str, Any]:
    """Median seconds of a candidate of each method, and of a copy that moves as many bytes as linear does."""
    import torch

    from benchmarks._cold import Watch
    from mergers._checkpoint.checkpoint import open_checkpoint
    from mergers._checkpoint.sources import Sources
    from mergers._execution.materialize import Materializer
    from mergers._spec import Merge

    base, experts, exact = make(work / f"{parameters / 1e6:.0f}M", parameters, count)
    live = {name: open_checkpoint(base).read(name).clone() for name in open_checkpoint(base).names}
    found: dict[str, Any] = {"parameters": exact, "experts": count, "threads": threads}
    found["copy"] = statistics.median(timed(_copier(exact * 2 * (count + 1), threads), repeat))
    for method in methods:
        used = experts[: 2 if method in PAIRS else len(experts)]
        target = Materializer(Sources(str(base), tuple(map(str, used))), live, threads=threads)
        state = {"call": 0}

        def candidate(method: str = method, target: Materializer = target, state: dict[str, int] = state) -> None:
            state["call"] += 1
            target.apply(Merge(method, _params(method, state["call"])))

        with Watch() as watch:
            start = time.perf_counter()
            candidate()
            first = time.perf_counter() - start
            seconds = timed(candidate, repeat)
        beyond = watch.peak["anonymous"] - watch.before["anonymous"]
        found[method] = {"first": first, "median": statistics.median(seconds), "all": seconds, "beyond_mb": beyond}
    torch.set_num_threads(1)
    return found


def _params(method: str, call: int) -> tuple[tuple[str, float], ...]:
    """Another candidate at every call, with densities on the grid that the search uses."""
    chosen = dict(METHODS[method])
    if "weight" in chosen:
        chosen["weight"] = 0.3 + 0.01 * call
    if "density" in chosen:
        chosen["density"] = (32 - call) / 64
    return tuple(chosen.items())


def _copier(moved: int, threads: int) -> Callable[[], object]:
    """A copy by `threads` threads that reads and writes `moved` bytes in all."""
    import numpy as np

    source, target = np.ones(moved // 2, np.uint8), np.empty(moved // 2, np.uint8)
    cuts = [len(source) * i // threads for i in range(threads + 1)]
    spans = [slice(low, high) for low, high in pairwise(cuts)]
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda span: np.copyto(target[span], source[span]), spans))


def memory(work: Path, repeat: int) -> dict[str, Any]:
    """Candidates at 350 M parameters with one and two threads."""
    found = {str(threads): in_memory(work, BIG, EXPERTS, FUSED, threads, repeat) for threads in (1, 2)}
    for method in FUSED:
        one, two = found["1"][method]["median"], found["2"][method]["median"]
        linear, copy = found["2"]["linear"]["median"], found["2"]["copy"]
        print(
            f"{method:<18} {two:6.3f} s  /copy {two / copy:5.2f}  /linear {two / linear:5.2f}  "
            f"2 threads {one / two:4.2f}x  first {found['2'][method]['first']:6.2f} s  "
            f"peak {found['2'][method]['beyond_mb']:5.0f} MB"
        )
    return found


def scaling(work: Path, repeat: int) -> dict[str, Any]:
    """Candidates over four sizes at six experts, and over the number of experts at 100 M parameters."""
    methods = ("linear", "ties", "dare_ties")
    sizes = [in_memory(work, size, EXPERTS, methods, 2, repeat) for size in (2e7, 5e7, MEDIUM, 2e8)]
    counts = [in_memory(work, MEDIUM, count, methods, 2, repeat) for count in (2, 4, 6, 8, 12)]
    for row in (*sizes, *counts):
        cost = {m: 1e9 * row[m]["median"] / row["parameters"] / row["experts"] for m in methods}
        shown = "  ".join(f"{m} {value:.3f}" for m, value in cost.items())
        print(f"{row['parameters'] / 1e6:6.0f} M x {row['experts']:2d} experts, ns per entry and expert: {shown}")
    return {"sizes": sizes, "experts": counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["cold", "memory", "scaling", "kernels"])
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoints (13 GB)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    args = parser.parse_args()
    result = json.loads(args.out.read_text()) if args.out.is_file() else {}
    result["machine"] = machine()
    args.out.parent.mkdir(parents=True, exist_ok=True)

    def keep(part: str, found: dict[str, Any]) -> None:
        result[part] = found
        args.out.write_text(json.dumps(result, indent=2) + "\n")

    if "cold" in args.parts:
        for method in args.methods:
            keep("cold", result.get("cold", {}) | cold(args.work, args.repeat, [method]))
    if "memory" in args.parts:
        keep("memory", memory(args.work, args.repeat))
    if "scaling" in args.parts:
        keep("scaling", scaling(args.work, args.repeat))
    if "kernels" in args.parts:
        from benchmarks._kernels import profile

        keep("kernels", profile())


if __name__ == "__main__":
    main()
