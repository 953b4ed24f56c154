"""What racing saves: the same search with and without stages, on made-up merges with items.

    python -m benchmarks.race --out benchmarks/results/race.json [--seeds 5] [--tasks t] [--peers random,nsga2,auto]

For each task, sampler and seed the search runs three times over the same bank of items: with every candidate scored on
all items; with stages (the race: as many candidates, or `--more` times as many); and with every candidate scored on all
items again, but for as few candidates as the race's items would pay (`short`). Figures: the share of the items that the
race scored; the true hypervolume of the final front in the race, and in the short search, divided by that of the full
search; and how often a dropped candidate was in truth not dominated by the front it was compared with. The final front
is what the product makes: the measured front and what may belong to it (`statistics.repeats`), decided on fresh items.
The front by the search's own items alone is `chosen`: where fronts are small against the noise, one lucky point that
dominates all makes it bad.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution

from search._study.finalists import history_of
from search._study.loop import FIRST_FINAL
from search._study.proposals import Asked, Observation, proposals
from search._study.subject import Scored
from search.racing.finals import EARLY, LEAST_GAIN, ROUNDS, deserving, places
from search.racing.race import Race, current_front, judge
from search.results.history import machine
from search.statistics.aggregates import Aggregate
from search.statistics.front import hypervolume
from search.statistics.repeats import deserving as deserving_items
from search.statistics.uncertainty import Quantity, draws, measured

from ._items import Bank, make_bank
from ._search_merges import binomial, synthetic
from ._search_tasks import Array, Task
from .noise import chance

STAGES, PROBABILITY, TOLERANCE = (0.2, 1.0), 0.9, 0.02
CANDIDATES = 96
TEMPLATES = 60  # in six languages: 360 items for each evaluator, as in the demo


def tasks() -> tuple[Task, ...]:
    """Made-up merges; `merge-worst-language` has the lowest language as its second objective."""
    both = ((0, "mean"), (1, "mean"))
    return (
        synthetic("merge-objective-d4", seed=11, experts=2, groups=2, by="objective", tuning=True),
        synthetic("merge-language-k6", seed=13, experts=6, by="language", objectives=both, tuning=True),
        synthetic("merge-objective-d4b", seed=21, experts=2, groups=2, by="objective", tuning=False),
        synthetic("merge-objective-d12b", seed=23, experts=4, groups=3, by="objective", tuning=False),
        synthetic("merge-language-k6b", seed=24, experts=6, by="language", objectives=both, tuning=False),
    )


@dataclass
class Scoring:
    """What a search has scored: one entry for each point in every list."""

    task: Task
    bank: Bank
    race: Race
    results: list[dict[str, Array]]
    true: list[Array]
    counts: list[dict[str, int]]
    scored: list[Scored]
    items: int = 0

    def add(self, x: Array) -> int:
        """Draw the results of a point; its index."""
        # The same point gets the same results in both searches, whenever it is asked.
        key = int(np.abs(np.round(x, 6) * 1e6).sum() * 7919) % 2**31
        self.results.append(self.bank.results(binomial(self.task).rates(x[None])[0], key))
        self.true.append(self.task.truth(x[None])[0])
        self.counts.append(dict.fromkeys(self.bank.layouts, 0))
        return len(self.true) - 1

    def cut(self, index: int) -> dict[str, Array]:
        """Results of a point as far as it was scored."""
        return {name: self.results[index][name][:, :count] for name, count in self.counts[index].items()}

    def observation(self, index: int) -> Observation:
        """As the sampler is told of it."""
        values = measured(self.bank.layouts, self.cut(index), self.race.objectives)[0]
        errors = tuple(_stderr(self.bank, self.cut(index), quantity) for quantity in self.race.objectives)
        return Observation(tuple(values.tolist()), errors, {})

    def full(self) -> list[int]:
        """Points that were scored on all items."""
        return [i for i, counts in enumerate(self.counts) if all(counts[n] == len(self.groups(n)) for n in counts)]

    def groups(self, name: str) -> tuple[str, ...]:
        """Groups of an evaluator's items, one entry for each item."""
        return tuple(self.bank.layouts[name].groups)

    def x(self, points: list[int]) -> Array:
        """Points of the cube: (k, d)."""
        return np.array([list(self.scored[index].values.values()) for index in points])

    def complete(self, index: int, *, free: bool = False) -> None:
        """Score what a point lacks."""
        for name, count in self.counts[index].items():
            self.items += 0 if free else len(self.groups(name)) - count
            self.counts[index][name] = len(self.groups(name))


def search(task: Task, bank: Bank, race: Race, peer: str, seed: int, candidates: int) -> dict[str, Any]:
    """One search as `search._study.loop` runs it; `race.stages` of (1.0,) scores every candidate in full."""
    names = [f"x{i:02d}" for i in range(task.problem.dimensions)]
    space: dict[str, BaseDistribution] = {name: FloatDistribution(0, 1) for name in names}
    sampler = proposals(peer, task.problem, space, seed)
    scoring, directions = Scoring(task, bank, race, [], [], [], []), task.problem.directions
    none, final = np.zeros((0, len(directions))), FIRST_FINAL
    asked: list[Asked] = []
    wrong = dropped = 0

    def promote(turn: int) -> None:
        history, full = history_of(scoring.scored, space)
        least = LEAST_GAIN if turn else EARLY * LEAST_GAIN
        chosen = deserving(task.problem, history, full, none, least, seed)
        for index in chosen[: places(len(chosen), turn)]:
            scoring.complete(index)
            observation = scoring.observation(index)
            sampler.revise(asked[index], observation)
            scoring.scored[index] = replace(scoring.scored[index], observation=observation, full=True)

    for start in task.problem.starts:
        given = dict(zip(names, map(float, start), strict=True))
        index = scoring.add(np.array(start))
        scoring.complete(index, free=True)
        asked.append(Asked(sampler.enter(given, scoring.observation(index)), given))
        scoring.scored.append(Scored("", given, scoring.observation(index), True))
    for number in range(1, candidates + 1):
        new = sampler.propose(lambda _: False)
        assert new is not None
        asked.append(new)
        index = scoring.add(np.array([new.values[name] for name in names]))
        for stage in range(len(race.stages)):
            scoring.items += sum(stop - first for _, first, stop in race.ranges(stage))
            scoring.counts[index] = {name: race.ends(name)[stage] for name in bank.layouts}
            if stage >= len(race.stages) - 2:  # the last stage is for finals to give, the one before it judges nothing
                break
            known = scoring.full()
            every = {name: np.concatenate([scoring.results[i][name] for i in known]) for name in bank.layouts}
            rivals = current_front(race, every)
            verdict = judge(race, scoring.cut(index), {name: rows[rivals] for name, rows in every.items()})
            if verdict.drop:
                better = np.array(scoring.true)[known][rivals]
                slack = race.tolerance * (better.max(axis=0) - np.array(race.reference))
                wrong += not (better + slack >= scoring.true[index]).all(axis=1).any()
                dropped += 1
                break
        observation = scoring.observation(index)
        sampler.tell(new, observation)
        scoring.scored.append(Scored("", new.values, observation, len(race.stages) == 1))
        if number == final and len(race.stages) > 1:
            promote(0)
            final *= 2
    for turn in range(1, ROUNDS + 1) if len(race.stages) > 1 else ():
        promote(turn)
    known = scoring.full()
    values = np.array([scoring.scored[i].observation.values for i in known])
    truths = np.array(scoring.true)
    front = moocore.is_nondominated(values, maximise=True, keep_weakly=True)
    return {
        "items": scoring.items,
        "full": len(known) - len(task.problem.starts),
        "dropped": dropped,
        "wrong": wrong,
        "true": confirmed(scoring, known, values),
        "chosen": hypervolume(truths[known][front], directions, race.reference),
        "found": hypervolume(truths, directions, race.reference),
        "measured": hypervolume(values, directions, race.reference),
    }


def confirmed(scoring: Scoring, known: list[int], values: Array) -> float:
    """True hypervolume of the final front: what the search's front and what may belong to it give on fresh items.

    Args:
        scoring: of the search.
        known: points scored in full.
        values: (k, m) as measured, of those.
    """
    bank, race, task = scoring.bank, scoring.race, scoring.task
    directions = task.problem.directions
    results = {name: np.concatenate([scoring.results[i][name] for i in known]) for name in bank.layouts}
    sure = chance(values, draws(bank.layouts, results, race.objectives, seed=race.seed), directions)
    front = moocore.is_nondominated(values, maximise=True, keep_weakly=True)
    chosen = [known[i] for i in deserving_items(front.tolist(), sure.tolist())]
    fresh = make_bank(len(bank.layouts), 6, len(dict.fromkeys(scoring.groups("e0"))), bank.seed + 10**6)
    rates = binomial(task).rates(scoring.x(chosen))
    every = [fresh.results(rates[place], index) for place, index in enumerate(chosen)]
    again = {name: np.concatenate([one[name] for one in every]) for name in fresh.layouts}
    report = measured(fresh.layouts, again, race.objectives)
    kept = moocore.is_nondominated(report, maximise=True, keep_weakly=True)
    return hypervolume(np.array(scoring.true)[chosen][kept], directions, race.reference)


def _stderr(bank: Bank, seen: dict[str, Array], quantity: Quantity) -> float:
    from evaluators._stats import score_of

    layout = bank.layouts[quantity.evaluator]
    values = seen[quantity.evaluator][0]
    return score_of(values, layout.groups[: len(values)]).stderr


def run(task: Task, peer: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The three searches of one seed."""
    evaluators = 1 + max(index for index, _ in binomial(task).objectives)
    bank = make_bank(evaluators, 6, settings["templates"], seed)
    quantities = tuple(
        Quantity(Aggregate("mean" if kind == "mean" else "min_language", f"e{index}"))
        for index, kind in binomial(task).objectives
    )
    reference = tuple(task.references["wide"].tolist())

    def race(stages: tuple[float, ...]) -> Race:
        return Race(
            stages,
            settings["probability"],
            quantities,
            task.problem.directions,
            reference,
            (),
            bank.layouts,
            settings["tolerance"],
            seed,
        )

    full = search(task, bank, race((1.0,)), peer, seed, settings["candidates"])
    many = round(settings["more"] * settings["candidates"])
    raced = search(task, bank, race(tuple(settings["stages"])), peer, seed, many)
    paid = round(settings["candidates"] * raced["items"] / full["items"])
    short = search(task, bank, race((1.0,)), peer, seed, paid)
    return {
        "task": task.name,
        "templates": settings["templates"],
        "peer": peer,
        "seed": seed,
        "more": settings["more"],
        "stages": settings["stages"],
        "items_share": raced["items"] / full["items"],
        "hypervolume_true": raced["true"] / full["true"],
        "hypervolume_chosen": raced["chosen"] / full["chosen"],
        "hypervolume_found": raced["found"] / full["found"],
        "hypervolume_measured": raced["measured"] / full["measured"],
        "short_true": short["true"] / full["true"],
        "full": raced["full"],
        "dropped": raced["dropped"],
        "wrong": raced["wrong"],
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over seeds for each task, sampler and number of items, then the median of those over tasks."""
    medians: dict[str, dict[str, Any]] = {}
    for row in rows:
        mine = [r for r in rows if _key(r) == _key(row) and r["task"] == row["task"]]
        medians.setdefault(_key(row), {})[row["task"]] = {
            key: round(statistics.median(r[key] for r in mine), 4)
            for key in ("items_share", "hypervolume_true", "short_true", "hypervolume_found", "hypervolume_chosen")
        }
    return {
        peer: {
            "tasks": by_task,
            "items_share": round(statistics.median(m["items_share"] for m in by_task.values()), 4),
            "hypervolume_true": round(statistics.median(m["hypervolume_true"] for m in by_task.values()), 4),
            "short_true": round(statistics.median(m["short_true"] for m in by_task.values()), 4),
            "seeds": len({row["seed"] for row in rows if _key(row) == peer}),
            "dropped": sum(row["dropped"] for row in rows if _key(row) == peer),
            "wrong": sum(row["wrong"] for row in rows if _key(row) == peer),
        }
        for peer, by_task in medians.items()
    }


def _key(row: dict[str, Any]) -> str:
    return f"{row['peer']}, {6 * row['templates']} items, stages {row['stages']}, {row['more']:g} times the candidates"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--tasks", default="", help="part of a name")
    arguments.add_argument("--peers", default="random,nsga2,auto")
    arguments.add_argument("--candidates", type=int, default=CANDIDATES)
    arguments.add_argument(
        "--more", type=float, default=1.0, help="candidates of the race for each one of the full search"
    )
    arguments.add_argument("--probability", type=float, default=PROBABILITY)
    arguments.add_argument("--tolerance", type=float, default=TOLERANCE)
    arguments.add_argument("--stages", default=",".join(map(str, STAGES)))
    arguments.add_argument("--templates", type=int, default=TEMPLATES, help="groups of six items, by evaluator")
    arguments.add_argument("--append", action="store_true", help="to the runs that the file holds")
    options = arguments.parse_args()
    settings = {
        "stages": [float(share) for share in options.stages.split(",")],
        "probability": options.probability,
        "tolerance": options.tolerance,
        "candidates": options.candidates,
        "more": options.more,
        "templates": options.templates,  # of the last call; each run has its own
    }
    known = json.loads(options.out.read_text()) if options.append and options.out.exists() else {}
    rows = known.get("runs", [])
    for task in (task for task in tasks() if options.tasks in task.name):
        for peer in options.peers.split(","):
            for seed in range(options.seeds):
                rows.append(run(task, peer, seed, settings))
            mine = rows[-options.seeds :]
            print(
                f"{task.name} {peer}: items {statistics.median(r['items_share'] for r in mine):.3f}, "
                f"true hypervolume {statistics.median(r['hypervolume_true'] for r in mine):.4f} "
                f"(of the short search {statistics.median(r['short_true'] for r in mine):.4f}) "
                f"measured {statistics.median(r['hypervolume_measured'] for r in mine):.4f} "
                f"wrong {sum(r['wrong'] for r in mine)} of {sum(r['dropped'] for r in mine)} dropped",
                flush=True,
            )
    result = known | {"machine": machine(), "settings": settings, "summary": summary(rows), "runs": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
