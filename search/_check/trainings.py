"""A recipe's trainings, held against the base's headers and against what the trainers refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search._recipe.training import Training
from search._recipe.yaml_text import KeyPath
from search.errors import Problem
from search.recipe import MergedExpert, Recipe


def problems(recipe: Recipe) -> tuple[Problem, ...]:
    """Settings that no training of these could have; nothing is loaded."""
    base = Path(recipe.resolve(recipe.base))
    positions, modules = _positions(base), _modules(base)
    found: list[Problem] = []
    for path, model in trainings(recipe):
        found += _lengths(recipe, path, model, positions)
        found += _targets(recipe, path, model, modules)
        found += _layout(recipe, path, model)
    return (*found, *_merges(recipe))


def trainings(recipe: Recipe) -> Iterator[tuple[KeyPath, Training]]:
    """(path in the recipe, training) of all that is trained."""
    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        for name, model in models.items():
            if isinstance(model, Training):
                yield (section, name), model


def _merges(recipe: Recipe) -> Iterator[Problem]:
    from mergers._errors import InputError
    from search._recipe.trainings import merge_of

    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        for name, model in models.items():
            if isinstance(model, MergedExpert):
                try:
                    merge_of(model.merge)
                except InputError as error:
                    yield recipe.problem((section, name, "merge"), str(error))


def _lengths(recipe: Recipe, path: KeyPath, model: Training, positions: int | None) -> Iterator[Problem]:
    if positions is not None and model.max_length > positions:
        place = (*path, "max_length") if recipe.states((*path, "max_length")) else path
        rule = f"max_length must be at most {positions}, the positions of the base"
        yield recipe.problem(place, rule, str(model.max_length), f"write max_length: {positions} or less")


def _targets(recipe: Recipe, path: KeyPath, model: Training, modules: tuple[str, ...]) -> Iterator[Problem]:
    from trainers._check import check_lora_targets
    from trainers._errors import InputError

    if model.lora is None or not modules:
        return
    try:
        check_lora_targets(tuple(model.lora.targets), modules)
    except InputError as error:
        yield recipe.problem((*path, "lora", "targets"), str(error))


def _layout(recipe: Recipe, path: KeyPath, model: Training) -> Iterator[Problem]:
    from search._training.specs import placement_of, spec_of
    from search.errors import UserError
    from trainers._check import check_placement, check_spec
    from trainers._errors import InputError
    from trainers._zero import zero_config

    workers, placement = recipe.cluster.trainers.workers, placement_of(recipe, model)
    try:
        spec = spec_of(recipe, str(path[1]), recipe.resolve(recipe.base))
    except UserError:
        return  # files that are not there are told of elsewhere
    try:
        check_spec(spec)
    except InputError as error:
        yield recipe.problem(path, str(error))
        return
    try:
        check_placement(placement, spec.batch, workers)
        zero_config(placement, spec, workers)
    except InputError as error:
        keys = ("deepspeed", "report_to", "micro_batch", "offload", "zero")
        stated = next((key for key in keys if recipe.states(("cluster", "trainers", key))), None)
        yield recipe.problem(("cluster", "trainers", *([stated] if stated else [])), str(error))


def _positions(base: Path) -> int | None:
    config = _json(base / "config.json")
    config = config.get("text_config", config) if isinstance(config, dict) else {}
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) else None


def _modules(base: Path) -> tuple[str, ...]:
    """Names of the base's modules, from its headers; () if it cannot be opened, which is told of elsewhere."""
    from mergers._checkpoint.checkpoint import open_checkpoint
    from mergers._errors import InputError

    try:
        names = open_checkpoint(base).names
    except InputError:
        return ()
    return tuple(name.removesuffix(".weight") for name in names)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
