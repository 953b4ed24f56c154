"""What must hold between the keys of a training, and between a training and the rest of the recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from search import plugins
from search._recipe import chains, compute, tuning
from search._recipe.starts import FixedMerge, FrontPick
from search._recipe.training import TrainedBaseline, TrainedExpert, Training
from search._recipe.yaml_text import KeyPath
from search.errors import Problem, shown, suggestion

if TYPE_CHECKING:
    from mergers._spec import Merge
    from search._recipe.problems import Origin
    from search.recipe import Recipe


def problems(recipe: Recipe, origin: Origin) -> list[Problem]:
    """All of them, in the order of the file."""
    found = chains.problems(recipe, origin)
    if found:
        return found
    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        for name, model in models.items():
            if isinstance(model, Training):
                found += _options(origin, (section, name), model)
                found += _tuned(recipe, origin, (section, name), model)
                found += _batches(recipe, origin, (section, name), model)
                found += _matched(recipe, origin, (section, name), model)
            pick = model.from_ if isinstance(model, Training) else model
            if isinstance(pick, FrontPick):
                found += _picked(recipe, origin, (section, name), pick)
    return found


def override(training: Training, key: str, value: Any) -> Training:
    """`training` with one tuned setting at `value`.

    Raises:
        ValueError: the value cannot be used; its text is the rule and what was given.
    """
    from trainers._errors import InputError
    from trainers._schema import check_options

    if key in tuning.WHOLE and isinstance(value, float) and value.is_integer():
        value = int(value)
    dump = training.model_dump(by_alias=True, exclude={"tune"})
    if key in tuning.FIELDS:
        dump[key] = value
    elif key in tuning.LORA:
        dump["lora"] = {**(dump["lora"] or {}), key.partition(".")[2]: value}
    else:
        try:
            check_options(training.trainer, {**training.options, key: value})
        except InputError as error:
            raise ValueError(str(error)) from None
        dump["options"] = {**training.options, key: value}
    try:
        return type(training).model_validate(dump)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first.get('ctx', {}).get('rule', first['msg'])}, got {value}") from None


def merge_of(fixed: FixedMerge) -> Merge:
    """The merge that a fixed one stands for; looks its method up, which loads torch.

    Raises:
        mergers.InputError: the method cannot merge these models, or not with these numbers.
    """
    from mergers._errors import InputError
    from mergers._schema import load_method
    from search._space.stored import from_json

    method, weights = load_method(fixed.method), tuple(fixed.weights.values())
    known = [parameter.name for parameter in method.parameters]
    params: dict[str, Any] = dict(fixed.parameters)
    if "weight" in known:
        params.setdefault("weight", list(weights))
    elif "t" in known and "t" not in params and len(weights) == 2:
        if min(weights) < 0 or sum(weights) <= 0:
            raise InputError(f"{fixed.method} needs shares that are not negative, got {list(weights)}")
        params["t"] = weights[1] / sum(weights)
    elif len(set(weights)) > 1:
        raise InputError(f"{fixed.method} has no weights; give every model the same number")
    merge = from_json(fixed.method, params, fixed.seed)
    merge.check(len(weights))
    return merge


def _options(origin: Origin, path: KeyPath, model: Training) -> Iterator[Problem]:
    from trainers._errors import InputError
    from trainers._schema import check_options, options_of

    foreign = _foreign(model)
    if foreign is not None:
        # Before anything else: what a function's name stands for is found by importing it.
        remedy = "name one of trainers.rewards"
        yield origin.problem((*path, *foreign[:-1]), "code of your own is not permitted here", foreign[-1], remedy)
        return
    try:
        tuned = {} if model.tune is None else {key: tuning.ends(of)[0] for key, of in model.tune.items()}
        known = [option.name for option in options_of(model.trainer)]
        own = {key: value for key, value in tuned.items() if key in known}
        check_options(model.trainer, {**own, **model.options})
    except InputError as error:
        where = next((key for key in model.options if f"'{key}'" in str(error) or f"{key} of" in str(error)), None)
        place = (*path, "options", where) if where else (*path, "options") if model.options else path
        yield origin.problem(place, str(error))


def _foreign(model: Training) -> tuple[str, ...] | None:
    """Keys and value of an option that names a function outside the package, where that is not permitted."""
    if plugins.outside_is_permitted() or plugins.is_outside(model.trainer):
        return None
    from trainers._schema import options_of

    for name in (option.name for option in options_of(model.trainer) if option.kind == "function"):
        tried = (model.tune or {}).get(name, ())
        given = [(("options", name), model.options.get(name))]
        given += [(("tune", name), value) for value in (tried if isinstance(tried, tuple) else ())]
        for keys, value in given:
            if value is not None and not str(value).startswith("trainers."):
                return (*keys, str(value))
    return None


def _tuned(recipe: Recipe, origin: Origin, path: KeyPath, model: Training) -> Iterator[Problem]:
    if model.tune is None:
        for key in tuning.ONLY_TUNED:
            if key in model.model_fields_set:
                yield origin.problem((*path, key), "means nothing without tune", None, "add `tune:`, or remove it")
        return
    from trainers._schema import options_of

    known = (*tuning.FIELDS, *tuning.LORA, *(option.name for option in options_of(model.trainer)))
    for key, values in model.tune.items():
        place = (*path, "tune", key)
        if key not in known:
            yield origin.problem(place, "is no setting of this training", None, suggestion(key, known))
            continue
        if key in tuning.LORA and model.lora is None:
            yield origin.problem(place, "needs lora", None, "add `lora: {}`")
            continue
        for value in tuning.ends(values):
            try:
                override(model, key, value)
            except ValueError as error:
                yield origin.problem(place, str(error))
                break
    if isinstance(model, TrainedBaseline) and model.steps == "match":
        yield origin.problem((*path, "tune"), "a matched baseline has no search of its own", None, "write its steps")
    objectives = recipe.search.objectives
    if model.metric != tuning.LOSS and model.metric not in objectives:
        known = (tuning.LOSS, *objectives)
        rule = "must be loss or an objective of search"
        yield origin.problem((*path, "metric"), rule, shown(model.metric), suggestion(model.metric, known))
    if model.metric == tuning.LOSS and model.trainer != "sft":
        rule = f"the held-out loss of {model.trainer} is not comparable between trials"
        remedy = f"write metric: {next(iter(objectives))}, or another objective"
        place = (*path, "metric") if "metric" in model.model_fields_set else (*path, "tune")
        yield origin.problem(place, rule, None, remedy)
    if "holdout" in model.model_fields_set and model.metric != tuning.LOSS:
        yield origin.problem((*path, "holdout"), "is for metric: loss only", None, "remove it")


def _batches(recipe: Recipe, origin: Origin, path: KeyPath, model: Training) -> Iterator[Problem]:
    workers, micro = recipe.cluster.trainers.workers, recipe.cluster.trainers.micro_batch
    place = (*path, "batch") if "batch" in model.model_fields_set else path
    tuned = model.tune.get("batch") if model.tune else None
    batches = tuning.ends(tuned) if isinstance(tuned, tuple) else (model.batch,)
    for batch in batches:
        place = (*path, "tune", "batch") if tuned is not None else place
        if batch % workers:
            rule = f"batch must be a multiple of the {workers} workers"
            yield origin.problem(place, rule, str(batch), "change batch, or cluster.trainers.workers")
        elif micro and (batch // workers) % micro:
            rule = f"a worker's share of the batch ({batch // workers}) must be a multiple of micro_batch ({micro})"
            yield origin.problem(place, rule, str(batch), "change batch, or cluster.trainers.micro_batch")


def _matched(recipe: Recipe, origin: Origin, path: KeyPath, model: Training) -> Iterator[Problem]:
    if not isinstance(model, TrainedBaseline) or model.steps != "match":
        return
    place = (*path, "steps") if "steps" in model.model_fields_set else path
    competing = [step for step in chains.closure(recipe, recipe.search.experts) if step.kind == "model"]
    if not any(isinstance(recipe.experts.get(step.name), TrainedExpert) for step in competing):
        rule = "no expert of the search is trained here, so there is no compute to match"
        yield origin.problem(place, rule, "match", "write a number of steps")
    elif matched_steps(recipe, str(path[1])) < 1:
        rule = "what it is made of has cost as much as the experts already"
        yield origin.problem(place, rule, "match", "write a number of steps")


def matched_steps(recipe: Recipe, name: str) -> int:
    """Steps of a baseline that has `steps: match`, rounded to whole steps; 0 if its ancestors spent all."""
    entries: Mapping[str, Any] = dict(recipe.experts) | dict(recipe.baselines)

    def trained(names: tuple[str, ...]) -> list[tuple[Training, int]]:
        steps = chains.closure(recipe, names)
        found = [entries.get(step.name) for step in steps if step.kind == "model"]  # a wrong name is told of elsewhere
        return [(entry, entry.steps) for entry in found if isinstance(entry, Training) and entry.steps != "match"]

    baseline = entries[name]
    parents = tuple(step.name for step in chains.graph(recipe)[chains.Step("model", name)] if step.kind == "model")
    left = compute.total(trained(recipe.search.experts)) - compute.total(trained(parents))
    steps: float = left / (compute.per_sequence(baseline) * baseline.batch)
    return max(0, math.ceil(steps - 1e-9))


def _picked(recipe: Recipe, origin: Origin, path: KeyPath, pick: FrontPick) -> Iterator[Problem]:
    from search.statistics import aggregates

    objectives = recipe.searches[pick.front].objectives
    named = ["knee", *(["safest"] if aggregates.safety(objectives) else []), *(f"best-{name}" for name in objectives)]
    if pick.pick not in named:
        rule = f"the front of {pick.front} has no such pick"
        yield origin.problem((*path, "pick"), rule, pick.pick, suggestion(pick.pick, named))
