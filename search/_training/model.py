"""One model of a run, or one step on the way to some: where it lies, and what it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search._recipe.starts import FixedMerge
from trainers._types import DEFAULT, Placement, TrainSpec

RECORD = "training.json"
MADE = "made.json"
"""What a merge leaves about itself, as a training leaves its record."""

SCORED = ("base", "expert", "baseline")


@dataclass(frozen=True)
class Tuning:
    """The search over a training's settings (see `search._recipe.training.Training`).

    Attributes:
        space: (setting, ("range" or "whole", (low, high, log))) or (setting, ("choices", (value, ...))).
        trials: how many trainings.
        halving: whether trials that lag are stopped.
        metric: `loss`, or an objective.
        direction: "min" or "max".
        concurrency: trials at the same time at most; 0: as many as fit.
        holdout: share of the rows that the loss is measured on; 0 where the metric is an objective.
        keep_all: whether the checkpoints of all trials stay.
    """

    space: tuple[tuple[str, tuple[str, tuple[Any, ...]]], ...]
    trials: int
    halving: bool
    metric: str
    direction: Literal["min", "max"]
    concurrency: int
    holdout: float
    keep_all: bool


@dataclass(frozen=True)
class Model:
    """One node of the graph of what is made of what.

    Attributes:
        name: of the recipe; steps on the way have names that no recipe can give (with a colon or a slash).
        kind: `base`, `expert` or `baseline` are scored; a `step` is neither scored nor merged.
        path: directory that it lies or will lie in.
        hash: content address: of what it is made of, or of the weights where it existed before.
        made: how: `given` (existed before), `trained`, `tuned` (the best of several trainings), `merged` (fixed
            coefficients), `picked` (from the front of an earlier search).
        parents: names of what it is made of, without the base; of a merge in the order of its weights.
        trainer, spec, placement: of a training; the spec's mixture is not final while `mixture` is not made.
        mixture: name of the step whose mixture the training takes.
        tuning: of a tuned training.
        merge, dtype: of a merge; `onto` is the checkpoint that its experts are differences from.
        search, pick: of a picked point.
    """

    name: str
    kind: str
    path: Path
    hash: str
    made: Literal["given", "trained", "tuned", "merged", "picked"] = "given"
    parents: tuple[str, ...] = ()
    trainer: str | None = None
    spec: TrainSpec | None = None
    placement: Placement = DEFAULT
    mixture: str | None = None
    tuning: Tuning | None = None
    merge: FixedMerge | None = None
    dtype: str = ""
    onto: Path | None = None
    search: str = ""
    pick: str = ""

    @property
    def reference(self) -> str:
        """The model as `mergers` reads it: a directory, or `BASE+ADAPTER` where an adapter is one of another base."""
        adapter = self.spec is not None and self.spec.lora is not None
        return f"{self.onto}+{self.path}" if adapter and self.onto is not None else str(self.path)

    @property
    def trains(self) -> bool:
        """Whether it comes about by training."""
        return self.made in ("trained", "tuned")


def is_made(model: Model) -> bool:
    """Whether the model lies where it should: its record is in a directory that appears whole or not at all."""
    if model.made == "given":
        return True
    return (model.path / (RECORD if model.trains else MADE)).is_file()


def record_of(model: Model) -> dict[str, Any] | None:
    """What a training left about itself (`trainers.sft`); None for what was not trained here."""
    file = model.path / RECORD
    if not model.trains or not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def missing(models: Iterable[Model]) -> list[Model]:
    """The models that do not exist yet; two of the same content are one."""
    return list({model.path: model for model in models if not is_made(model)}.values())


def needed(models: Iterable[Model], names: Iterable[str]) -> list[Model]:
    """The models `names` and all that they are made of, in the order of `models`."""
    by_name = {model.name: model for model in models}
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found and name in by_name:
            found.add(name)
            model = by_name[name]
            left += [*model.parents, *([model.mixture] if model.mixture else [])]
    return [model for model in by_name.values() if model.name in found]
