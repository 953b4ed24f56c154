"""From a recipe to the graph of its models: every step with its directory and its content address.

An address is the hash of all that the weights depend on: contents instead of paths, addresses of parents instead of
names, and not where or how a model is made. A tuned model's address is the hash of what was searched over, a picked
one's of the whole search that it comes from: neither is searched twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from search._recipe.chains import Step, closure, is_mixture, ordered, pick_step
from search._recipe.lock import identity
from search._recipe.starts import FixedMerge, FrontPick, MixFrom
from search._recipe.training import Training
from search._training.inputs import input_name
from search._training.model import Model, Tuning
from search._training.specs import placement_of, spec_of, tuning_of
from search.recipe import ExistingExpert, MergedExpert, Recipe
from trainers._types import TrainSpec


def plan(recipe: Recipe, folder: Path, hashes: Mapping[str, str]) -> tuple[Model, ...]:
    """All models of a recipe, with the steps on the way to them.

    Args:
        recipe: the recipe.
        folder: of checkpoints that are made.
        hashes: as made by `search._training.inputs.input_hashes` (and of graders, where an earlier search is picked
            from).

    Returns:
        The base; experts and baselines, in the recipe's order; then the steps on the way.
    """
    planner = _Planner(recipe, folder, hashes)
    for step in ordered(recipe):
        planner.add(step)
    names = ("base", *recipe.experts, *recipe.baselines)
    first = [planner.found[name] for name in names]
    return (*first, *(model for name, model in planner.found.items() if name not in names))


class _Planner:
    """Models found so far, each after what it is made of."""

    def __init__(self, recipe: Recipe, folder: Path, hashes: Mapping[str, str]) -> None:
        self.recipe, self.folder, self.hashes = recipe, folder, hashes
        base = Path(recipe.resolve(recipe.base))
        self.found: dict[str, Model] = {"base": Model("base", "base", base, hashes["base"])}

    def add(self, step: Step) -> None:
        """Enter a node of the recipe's graph."""
        if step.kind == "search":
            return  # a search is carried out for its picks
        if step.kind == "pick":
            front, _, pick = step.name.partition(":")
            self._keep(self._picked(step.name, "step", FrontPick(front=front, pick=pick)))
            return
        entry = self.recipe.entry(step.name)
        kind = "expert" if step.name in self.recipe.experts else "baseline"
        kind = "step" if is_mixture(entry) else kind
        if isinstance(entry, ExistingExpert):
            path, digest = Path(self.recipe.resolve(entry.path)), self.hashes[f"experts.{step.name}"]
            self._keep(Model(step.name, kind, path, digest))
        elif isinstance(entry, MergedExpert):
            parents = tuple(entry.merge.weights)
            self._keep(self._merged(step.name, kind, entry.merge, parents, self.recipe.export.dtype))
        elif isinstance(entry, FrontPick):
            self._keep(self._picked(step.name, kind, entry))
        else:
            self._keep(self._trained(step.name, kind, entry))

    def _keep(self, model: Model) -> Model:
        self.found[model.name] = model
        return model

    def _trained(self, name: str, kind: str, entry: Training) -> Model:
        start = self._start(entry)
        spec = spec_of(self.recipe, name, str(start.path))
        mixture = entry.mix.from_ if isinstance(entry.mix, MixFrom) else None
        tuning = tuning_of(self.recipe, entry)
        address = self._address(entry.trainer, spec, start, mixture, tuning)
        return Model(
            name,
            kind,
            self.folder / address,
            address,
            "trained" if tuning is None else "tuned",
            parents=() if start.kind == "base" else (start.name,),
            trainer=entry.trainer,
            spec=spec,
            placement=placement_of(self.recipe, entry),
            mixture=mixture,
            tuning=tuning,
            # A low-rank change is one of what it was trained on, which need not be the base of the run.
            onto=start.path if entry.lora is not None and start.kind != "base" else None,
        )

    def _start(self, entry: Training) -> Model:
        if entry.from_ is None:
            return self.found["base"]
        start = self.found[entry.from_ if isinstance(entry.from_, str) else pick_step(entry.from_).name]
        if not _is_adapter(start):
            return start
        # An adapter is folded before the next training: what follows needs one checkpoint to be a difference from.
        name = f"{start.name}/full"
        if name not in self.found:
            alone = FixedMerge(method="linear", weights={start.name: 1.0})
            dtype = entry.dtype if start.spec is None else start.spec.dtype
            self._keep(self._merged(name, "step", alone, (start.name,), dtype))
        return self.found[name]

    def _merged(self, name: str, kind: str, merge: FixedMerge, parents: tuple[str, ...], dtype: str) -> Model:
        models = [self.found[parent] for parent in parents]
        settings = [merge.method, list(merge.weights.values()), dict(merge.parameters), merge.seed]
        made = {"merge": settings, "of": [model.hash for model in models]}
        address = _hash(["merged", made, dtype, self.hashes["base"]])
        onto = self.found["base"].path
        return Model(name, kind, self.folder / address, address, "merged", parents, merge=merge, dtype=dtype, onto=onto)

    def _picked(self, name: str, kind: str, pick: FrontPick) -> Model:
        experts = self.recipe.searches[pick.front].experts
        whole = identity(self.recipe.model_dump(mode="json"))
        keys = ("seed", "languages", "evaluators", "cluster", "export")
        searched = {"search": whole["searches"][pick.front], **{key: whole[key] for key in keys}}
        scored = {key: value for key, value in self.hashes.items() if key.startswith("evaluators.") and ":" not in key}
        of = [self.found[expert].hash for expert in experts]
        address = _hash(["picked", searched, scored, of, self.hashes["base"], pick.pick])
        dtype = self.recipe.export.dtype
        return Model(
            name,
            kind,
            self.folder / address,
            address,
            "picked",
            tuple(step.name for step in closure(self.recipe, experts) if step.kind == "model"),
            dtype=dtype,
            search=pick.front,
            pick=pick.pick,
        )

    def _address(self, trainer: str, spec: TrainSpec, start: Model, mixture: str | None, tuning: Tuning | None) -> str:
        neutral = asdict(replace(spec, base=start.hash))
        for source in neutral["sources"]:
            source["files"] = [self.hashes[input_name("data", source["name"], file)] for file in source["files"]]
            if mixture is not None:
                source["probability"] = self.found[mixture].hash
        if tuning is None:
            return _hash([trainer, neutral])
        searched = asdict(replace(tuning, concurrency=0, keep_all=False))
        measured = {key: value for key, value in self.hashes.items() if key == f"evaluators.{_evaluator(tuning)}"}
        return _hash(["tuned", trainer, neutral, searched, measured])


def _evaluator(tuning: Tuning) -> str:
    from search.statistics.aggregates import parse

    return "" if tuning.holdout else parse(tuning.metric).evaluator


def _is_adapter(model: Model) -> bool:
    if model.spec is not None or model.made != "given":
        return model.spec is not None and model.spec.lora is not None
    from mergers._adapter.fold import split_reference
    from mergers._errors import InputError

    try:
        return split_reference(model.path)[1] is not None
    except InputError:
        return False  # nothing lies there: `check` says so in its own words


def _hash(value: Any) -> str:
    content = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
