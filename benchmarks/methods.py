"""Methods race methods: what stopping the merge methods that lag saves, on the demo's real merges.

    python -m benchmarks.methods --out benchmarks/results/methods.json [--candidates 96]

`benchmarks.record_methods` has recorded each method's own search, for several seeds: real merges of the demo's experts,
scored by its evaluators. A search depends on its own history alone, so how several share evaluators and candidates can
be played from the recording: workers take what is asked first come, first served, a candidate takes the seconds that it
took, and after each one a scheduler may stop searches. Schedulers:

* `fair`: every method has an equal share;
* `asha`: the product's (`search.racing.method_race`), which `scheduler: asha` means;
* `ray-asha`: Ray Tune's own ASHA, first rung 8, halving, for comparison.

Figures by seed: the hypervolume of all candidates and the unmerged models by the number of candidates, and how many
candidates (each scored on the same items) it takes to reach 99 % and all of what `fair` ends with.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.racing.method_race import Standings
from search.results.history import machine
from search.searches import shares
from search.statistics.front import hypervolume

from .record_methods import RESULTS

ACTORS = 2
Recorded = Mapping[str, Sequence[Sequence[float]]]
"""Method -> its candidates in order: objectives, then seconds."""
Decide = Callable[[str, int, float], bool]
"""(search, its candidates so far, their hypervolume with the unmerged models) -> whether it is stopped."""


def played(
    searches: Recorded, limits: Mapping[str, int], total: int, decide: Decide, volume: Callable[[Any], float]
) -> list[tuple[str, tuple[float, ...]]]:
    """Candidates in the order in which they are scored: (method, objectives).

    Raises:
        SystemExit: the recording is too short for this.
    """
    asked, ready, now = Counter[str](), deque(searches), 0.0
    flying: list[tuple[float, int, str]] = []
    done: dict[str, list[tuple[float, ...]]] = {name: [] for name in searches}
    order: list[tuple[str, tuple[float, ...]]] = []
    entered = 0
    while True:
        while ready and len(flying) < ACTORS and entered < total:
            name = ready.popleft()
            if asked[name] >= limits[name]:
                continue
            if asked[name] >= len(searches[name]):
                raise SystemExit(f"{name}: {len(searches[name])} candidates are recorded, {asked[name] + 1} are wanted")
            heapq.heappush(flying, (now + searches[name][asked[name]][-1], entered, name))
            asked[name] += 1
            entered += 1
        if not flying:
            return order
        now, _, name = heapq.heappop(flying)
        values = tuple(searches[name][len(done[name])][:-1])
        done[name].append(values)
        order.append((name, values))
        if not decide(name, len(done[name]), volume(done[name])):
            ready.append(name)


def ray_asha(total: int) -> Decide:
    from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

    asha = AsyncHyperBandScheduler(
        time_attr="evaluated", metric="hypervolume", mode="max", grace_period=8, reduction_factor=2, max_t=total + 1
    )
    trials: dict[str, Any] = {}

    def decide(name: str, evaluated: int, height: float) -> bool:
        if name not in trials:
            trials[name] = type("Named", (), {"trial_id": name})()
            asha.on_trial_add(None, trials[name])
        said = asha.on_trial_result(None, trials[name], {"evaluated": evaluated, "hypervolume": height})
        return bool(said == TrialScheduler.STOP)

    return decide


def halving(names: Sequence[str]) -> Decide:
    found = Standings(names)

    def decide(name: str, evaluated: int, height: float) -> bool:
        found.keep(name, evaluated, height)
        return found.lags(name)

    return decide


def race(recorded: Mapping[str, Any], searches: Recorded, total: int) -> dict[str, Any]:
    """The figures of one seed."""
    directions, unmerged = tuple(recorded["objectives"].values()), recorded["unmerged"]

    def volume(values: Sequence[Sequence[float]]) -> float:
        return hypervolume(np.array([*unmerged, *values]), directions, recorded["reference"])

    free = dict.fromkeys(searches, total)
    equal = dict(zip(searches, shares(total, len(searches)), strict=True))
    schedulers: dict[str, tuple[Mapping[str, int], Decide]] = {
        "fair": (equal, lambda *_: False),
        "asha": (free, halving(tuple(searches))),
        "ray-asha": (free, ray_asha(total)),
    }
    found: dict[str, Any] = {}
    for scheduler, (limits, decide) in schedulers.items():
        order = played(searches, limits, total, decide, volume)
        curve = [volume([values for _, values in order[: count + 1]]) for count in range(len(order))]
        goal = found["fair"]["hypervolume"] if found else curve[-1]
        found[scheduler] = {
            "hypervolume": curve[-1],
            "to_99_percent": reached(curve, 0.99 * goal),
            "to_all": reached(curve, goal),
            "candidates": dict(Counter(name for name, _ in order)),
            "curve": [round(height, 6) for height in curve],
        }
    return found


def reached(curve: Sequence[float], goal: float) -> int | None:
    """Candidates until the goal; None: never."""
    return next((count for count, height in enumerate(curve, 1) if height >= goal - 1e-12), None)


def summary(seeds: Mapping[str, Mapping[str, Any]], total: int) -> dict[str, Any]:
    """Medians over the seeds; what was never reached counts as all candidates."""
    found: dict[str, Any] = {}
    for scheduler in next(iter(seeds.values())):
        mine, fair = ([seed[name] for seed in seeds.values()] for name in (scheduler, "fair"))
        found[scheduler] = {
            key: statistics.median(one[key] or total for one in mine) for key in ("to_99_percent", "to_all")
        }
        pairs = list(zip(mine, fair, strict=True))
        for key in ("to_99_percent", "to_all"):
            share = statistics.median((one[key] or total) / (other[key] or total) for one, other in pairs)
            found[scheduler][f"{key}_share"] = round(share, 3)
        gain = statistics.median(one["hypervolume"] / other["hypervolume"] for one, other in pairs)
        found[scheduler]["hypervolume_of_all"] = round(gain, 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=96)
    options = parser.parse_args()
    recorded = json.loads(options.recorded.read_text(encoding="utf-8"))
    seeds = {seed: race(recorded, searches, options.candidates) for seed, searches in recorded["searches"].items()}
    result = {
        "machine": machine(),
        "candidates": options.candidates,
        "items_per_candidate": recorded["items"],
        "summary": summary(seeds, options.candidates),
        "seeds": seeds,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["summary"], indent=1))
    for seed, found in seeds.items():
        for scheduler, figures in found.items():
            print(seed, scheduler, {key: value for key, value in figures.items() if key != "curve"})


if __name__ == "__main__":
    main()
