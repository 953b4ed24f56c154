"""Record landscapes of real merges of the demo world, for the search benchmark.

    OMP_NUM_THREADS=1 python -m benchmarks.record_landscapes --work DIR [--out benchmarks/landscapes] [--only NAME,...]

Experts are trained by `trainers.sft` on the demo world's data, merged into a live model by `mergers`, and scored by the
evaluators on a fixed, balanced part of the items of the search split: what an evaluator actor does, in one process.
Every scored merge is one line of `DIR/NAME.jsonl`, so the recording can be stopped and started at any time; the files
in `--out` are what `benchmarks._search_merges.recorded` reads, written anew after each stage.

Points: each expert alone, nothing at all and the uniform merge; then a Sobol sequence over the whole space; then, in
three stages, points around the two best non-dominated layers so far, so that the surrogate is densest where searches
end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators._schema import build
from evaluators._types import Evaluator, Item
from mergers._schema import load_method
from mergers._spec import Merge
from search.samplers._types import Array
from search.samplers.qmc import sobol
from search.space import Grid, space_of
from trainers._types import Placement, Source, TrainSpec

from ._search_merges import held_out_errors

LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
EVALUATORS = {
    "general": ("exact_match", "general", 20, {}),
    "safety": ("refusal", "harmful", 20, {"max_new_tokens": 8}),
    "over_refusal": ("refusal", "lookalikes", 10, {"max_new_tokens": 8}),
}
"""Evaluator -> (kind, file of items, items for each language, options). The refusals that the experts learned are told
from other answers by their first words."""
SEARCH_ITEMS = 40
"""Items of each evaluator and language that a search would score."""
SPREAD, AROUND, STAGES = 1024, 384, 3
STEP = 0.1  # of the unit cube, for points around good ones
LARGEST = 1.2  # weight of an expert under TIES without normalisation


Expert = tuple[str, float, tuple[str, ...], int]
"""Name, share of safety data, languages (all where empty), steps."""


@dataclass(frozen=True)
class Recording:
    """One landscape.

    Attributes:
        name: of the file.
        experts: in merge order.
        merge: point of the unit cube -> merge.
        starts: (s, d) points scored first; the first `alone` of them are one expert alone.
        alone: how many.
        sticks: (first, stop) dimension of each simplex.
        evaluators: which count.
        tuning: whether `auto` may be tuned on it.
    """

    name: str
    experts: tuple[Expert, ...]
    merge: Callable[[Array], Merge]
    starts: Array
    alone: int
    sticks: tuple[tuple[int, int], ...]
    evaluators: tuple[str, ...]
    tuning: bool


def recordings() -> tuple[Recording, ...]:
    """All landscapes: from two experts with TIES' densities to twelve by weights of objectives and of languages."""
    two = (("general", 0.0, (), 60), ("safety", 1.0, (), 60))
    full = 1.0 / LARGEST
    return (
        Recording(
            "real-objective-d4",
            two,
            _ties,
            np.array([[full, 0, 1, 1], [0, full, 1, 1], [0, 0, 1, 1], [full / 2, full / 2, 1, 1]]),
            2,
            (),
            ("general", "safety"),
            True,
        ),
        _in_space(
            "real-language-d4",
            tuple((language, 0.15, (language,), 60) for language in ("en", "hi", "ar", "ru")),
            None,
            ("general", "safety"),
            tuning=True,
        ),
        _in_space(
            "real-mixed-d5",
            (
                ("general", 0.0, (), 40),
                ("safety", 1.0, (), 40),
                *((language, 0.3, (language,), 60) for language in ("hi", "ar", "fr")),
            ),
            None,
            ("general", "safety", "over_refusal"),
            tuning=True,
        ),
        _in_space(
            "real-language-d6",
            tuple((language, 0.3, (language,), 40) for language in LANGUAGES),
            None,
            ("general", "safety"),
        ),
        _in_space(
            "real-factorized-d7",
            tuple(
                (f"{objective}-{language}", share, (language,), 40)
                for objective, share in (("general", 0.0), ("safety", 1.0))
                for language in LANGUAGES
            ),
            Grid(("general", "safety"), LANGUAGES, tuple((o, f) for o in range(2) for f in range(len(LANGUAGES)))),
            ("general", "safety", "over_refusal"),
        ),
    )


def _in_space(
    name: str, experts: tuple[Expert, ...], grid: Grid | None, evaluators: tuple[str, ...], *, tuning: bool = False
) -> Recording:
    """Task arithmetic in the space that a recipe's search would have."""
    names = [expert[0] for expert in experts]
    kind = "free" if grid is None else "factorized"
    space = space_of(load_method("task_arithmetic"), names, coefficients=kind, seed=0, grid=grid)
    low = np.array([dimension.low for dimension in space.dimensions])
    width = np.array([dimension.high for dimension in space.dimensions]) - low
    keys = [dimension.name for dimension in space.dimensions]

    def merge(x: Array) -> Merge:
        return space.decode(dict(zip(keys, (low + width * x).tolist(), strict=True)))

    corners = dict(space.corners())
    starts = [*(corners[name] for name in names), corners["base"], space.uniform()]
    points = (np.array([[start[key] for key in keys] for start in starts]) - low) / width
    return Recording(name, experts, merge, points, len(names), space.sticks, evaluators, tuning)


def _ties(x: Array) -> Merge:
    weights, densities = LARGEST * x[:2], (6 + np.round(58 * x[2:])) / 64
    params = (
        ("weight", tuple(map(float, weights))),
        ("density", tuple(map(float, densities))),
        ("normalize", False),
    )
    return Merge("ties", params)


class Scorer:
    """Point -> items solved, (evaluators, languages); one live model, as in an evaluator actor."""

    def __init__(self, recording: Recording, world: Path, experts: tuple[str, ...]) -> None:
        from evaluators._transformers import transformers_engine
        from mergers._merge import Materializer, Sources

        self.recording = recording
        self.engine = transformers_engine(str(world / "base"), dtype="float32")
        self.materializer = Materializer(Sources(str(world / "base"), experts), self.engine.weights())
        self.scored = [_evaluator(name, world) for name in recording.evaluators]
        self.items = np.array([[_count(items, language) for language in LANGUAGES] for _, items in self.scored])

    def __call__(self, x: Array) -> NDArray[np.int64]:
        """Score one merge."""
        self.materializer.apply(self.recording.merge(x))
        return np.array([self._solved(evaluator, items) for evaluator, items in self.scored])

    def _solved(self, evaluator: Evaluator, items: tuple[Item, ...]) -> list[int]:
        values = evaluator.score(self.engine, items)
        solved = Counter(item.language for item, value in zip(items, values, strict=True) if value == 1)
        return [solved[language] for language in LANGUAGES]


def _evaluator(name: str, world: Path) -> tuple[Evaluator, tuple[Item, ...]]:
    from evaluators._items import load_items

    kind, file, count, options = EVALUATORS[name]
    source = {"path": "json", "files": [str(world / "eval" / f"{file}.jsonl")], "columns": {}, "split": "train"}
    items = [item for item in load_items(source, LANGUAGES) if item.split == "search"]
    return build(kind, options), tuple(_balanced(items, count))


def _balanced(items: list[Item], count: int) -> Iterator[Item]:
    """`count` items of each language, alike over tasks, in file order."""
    for language in LANGUAGES:
        own = [item for item in items if item.language == language]
        tasks = len({item.task for item in own})
        taken: Counter[str] = Counter()
        for item in own:
            if taken[item.task] < count / tasks:
                taken[item.task] += 1
                yield item


def _count(items: tuple[Item, ...], language: str) -> int:
    return sum(item.language == language for item in items)


def train(recording: Recording, world: Path, work: Path) -> tuple[str, ...]:
    """The experts' directories; what is there is not trained again."""
    from trainers.sft import sft

    found = []
    for name, safety, languages, steps in recording.experts:
        shares = {"general": 1.0 - safety, "safety": safety}
        sources = tuple(
            Source(data, "json", (str(world / "data" / f"{data}.jsonl"),), (), share)
            for data, share in shares.items()
            if share
        )
        out = work / "experts" / f"{name}-{safety:g}-{steps}"
        spec = TrainSpec(str(world / "base"), sources, languages, steps, batch=64, max_length=64, dtype="float32")
        placement, working = Placement(zero=0), str(work / "training" / out.name)
        sft(spec, out=str(out), work=working, report=lambda _: None, placement=placement)
        found.append(str(out))
    return tuple(found)


def design(recording: Recording, x: Array, solved: NDArray[np.int64], stage: int) -> Array:
    """The points of a stage, from those of the stages before."""
    if stage == 0:
        return np.concatenate([recording.starts, sobol(recording.starts.shape[1], 0, 0, SPREAD)])
    import moocore

    values = (solved * _signs(recording)[:, None]).sum(axis=2)
    left, parents = np.arange(len(x)), []
    for _ in range(2):
        best = moocore.is_nondominated(values[left], maximise=True, keep_weakly=True)
        parents.append(left[best])
        left = left[~best]
    rng = np.random.default_rng(stage)
    chosen = x[rng.choice(np.concatenate(parents), size=AROUND)]
    return np.asarray(np.clip(chosen + STEP * rng.normal(size=chosen.shape), 0.0, 1.0))


def record(recording: Recording, scorer: Scorer, lines: Path, stage: int) -> None:
    """Score what is missing of the stages up to `stage`."""
    x, solved = read(recording, lines)
    before = len(recording.starts) + SPREAD + (stage - 1) * AROUND if stage else 0
    wanted = design(recording, x[:before], solved[:before], stage)
    started = time.perf_counter()
    for number, point in enumerate(wanted[len(x) - before :], 1):
        row = json.dumps({"x": point.tolist(), "solved": scorer(point).tolist()})
        with lines.open("a") as file:
            file.write(row + "\n")
        if number % 64 == 0:
            pace = (time.perf_counter() - started) / number
            print(f"{recording.name}: {len(x) + number} merges, {pace:.2f} s each", flush=True)


def read(recording: Recording, lines: Path) -> tuple[Array, NDArray[np.int64]]:
    """What is recorded so far: points (n, d) and items solved (n, evaluators, languages)."""
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    x = np.array([row["x"] for row in rows]).reshape(len(rows), recording.starts.shape[1])
    return x, np.array([row["solved"] for row in rows]).reshape(len(rows), len(recording.evaluators), len(LANGUAGES))


def write(recording: Recording, scorer: Scorer, lines: Path, out: Path) -> None:
    """The file that the benchmark reads; over-refusal is turned round, so that every rate is to be maximised."""
    x, solved = read(recording, lines)
    rates = solved / scorer.items
    falling = _signs(recording) < 0
    rates[:, falling] = 1.0 - rates[:, falling]
    print(f"{recording.name}: {len(x)} merges; {held_out_errors(x, rates, scorer.items, recording.sticks)}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out / f"{recording.name}.npz",
        x=x.astype(np.float32),
        rates=rates.astype(np.float32),
        items=scorer.items,
        search_items=np.array(SEARCH_ITEMS),
        starts=recording.starts,
        experts=np.array(recording.alone),
        sticks=np.array(recording.sticks, dtype=np.int64).reshape(-1, 2),
        objectives=np.array(json.dumps([[index, "mean"] for index in range(len(recording.evaluators))])),
        tuning=np.array(recording.tuning),
        evaluators=np.array(recording.evaluators),
        languages=np.array(LANGUAGES),
    )


def _signs(recording: Recording) -> NDArray[np.int64]:
    return np.array([-1 if name == "over_refusal" else 1 for name in recording.evaluators])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "landscapes")
    arguments.add_argument("--only", default="", help="parts of names")
    options = arguments.parse_args()
    from search.demo.world import write_world

    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    world = work / "world"
    if not (world / "recipe.yaml").exists():
        write_world(world)
    wanted = [r for r in recordings() if any(part in r.name for part in options.only.split(","))]
    scorers = [Scorer(recording, world, train(recording, world, work)) for recording in wanted]
    for stage in range(STAGES + 1):
        for recording, scorer in zip(wanted, scorers, strict=True):
            lines = work / f"{recording.name}.jsonl"
            record(recording, scorer, lines, stage)
            write(recording, scorer, lines, options.out)


if __name__ == "__main__":
    main()
