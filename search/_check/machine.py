"""What a run needs at the same time, against what this machine can ever give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search._recipe.chains import graph
from search.errors import Problem
from search.recipe import FrontPick, MergedExpert, Recipe, Training

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SEARCH_CPUS = 0.01  # what the Tune trial of a search holds beside the evaluator actors
ADAM_BYTES = 16  # per parameter in training: float32 weights, gradients and two moments


@dataclass(frozen=True)
class Needs:
    """What a run takes. Bytes are of weights and optimizer states alone: a lower bound that no setting avoids.

    Attributes:
        search_cpus, search_gpus: held during the search.
        training_cpus, training_gpus: held by one training; 0 if nothing is trained.
        actor_bytes: memory of one evaluator actor.
        training_bytes: memory of one training, over its workers.
        expert_bytes: disk for what is trained, resumable states included.
        export_bytes: disk for the picks.
    """

    search_cpus: float
    search_gpus: float
    training_cpus: float
    training_gpus: float
    actor_bytes: int
    training_bytes: int
    expert_bytes: int
    export_bytes: int


def needs(recipe: Recipe, parameters: int) -> Needs:
    """What the recipe takes for a base of `parameters` parameters."""
    actors, workers, dtype = recipe.cluster.evaluators, recipe.cluster.trainers, BYTES[recipe.export.dtype]
    models = [*recipe.experts.values(), *recipe.baselines.values()]
    trained = [model for model in models if isinstance(model, Training)]
    made = sum(isinstance(model, (MergedExpert, FrontPick)) for model in models)
    resumable = ADAM_BYTES * parameters if any(model.save_every for model in trained) else 0
    return Needs(
        search_cpus=actors.actors.min * actors.cpus + SEARCH_CPUS,
        search_gpus=actors.actors.min * actors.gpus,
        training_cpus=workers.workers * workers.cpus if trained else 0.0,
        training_gpus=workers.workers * workers.gpus if trained else 0.0,
        actor_bytes=dtype * parameters,
        training_bytes=ADAM_BYTES * parameters * (1 if workers.zero else workers.workers) if trained else 0,
        # Every trial of a tuned training has a checkpoint until the best is chosen.
        expert_bytes=sum(
            BYTES[model.dtype] * parameters * (model.trials if model.tune is not None else 1) for model in trained
        )
        + made * dtype * parameters
        + resumable,
        export_bytes=dtype * parameters * len(recipe.export.picks),
    )


def problems(recipe: Recipe, needs: Needs) -> tuple[Problem, ...]:
    """Requests that this machine can never meet. A cluster that is joined is asked when it is joined."""
    found: list[Problem] = []
    trainers = recipe.cluster.trainers
    if recipe.cluster.address != "local":
        return ()
    actors = recipe.cluster.evaluators
    share = f"{actors.actors.min} actors"
    group = f"{trainers.workers} workers"
    search, training = ("cluster", "evaluators"), ("cluster", "trainers")
    cpus = machine_cpus()
    found += _short(recipe, (*search, "cpus"), f"{share} x {actors.cpus:g} + search", "CPUs", needs.search_cpus, cpus)
    found += _short(recipe, (*training, "cpus"), f"{group} x {trainers.cpus:g}", "CPUs", needs.training_cpus, cpus)
    if needs.search_gpus or needs.training_gpus:
        gpus = machine_gpus()
        found += _short(recipe, (*search, "gpus"), f"{share} x {actors.gpus:g}", "GPUs", needs.search_gpus, gpus)
        found += _short(recipe, (*training, "gpus"), f"{group} x {trainers.gpus:g}", "GPUs", needs.training_gpus, gpus)
    memory = machine_memory()
    if not needs.search_gpus:
        held = needs.actor_bytes * actors.actors.min
        found += _short_memory(recipe, (*search, "actors"), f"{share} with a model each", held, memory)
    if not needs.training_gpus:
        what = f"one training (ZeRO {trainers.zero}, {group})"
        found += _short_memory(recipe, (*training, "workers"), what, needs.training_bytes, memory)
    return tuple(found)


def warnings(recipe: Recipe, needs: Needs) -> tuple[Problem, ...]:
    """What will run and may not run well."""
    found = []
    if recipe.search.candidates < len(recipe.search.methods):
        rule = f"fewer candidates than methods ({len(recipe.search.methods)})"
        value = str(recipe.search.candidates)
        found.append(recipe.problem(("search", "candidates"), rule, value, "some methods get none"))
    used = {parent.name for parents in graph(recipe).values() for parent in parents}
    unused = [name for name in recipe.experts if name not in recipe.search.experts and name not in used]
    for name in unused:
        found.append(recipe.problem(("experts", name), "is not in search.experts", None, "it is scored, not merged"))
    if recipe.cluster.address != "local":
        rule = "resources are compared with the cluster only when it is joined"
        found.append(recipe.problem(("cluster", "address"), rule, recipe.cluster.address))
    return tuple(found)


def machine_cpus() -> int:
    """CPUs that a cluster started here would offer."""
    from cluster.session import machine_cpus as usable

    return usable()


def machine_gpus() -> int:
    """GPUs visible to this process."""
    import torch

    return torch.cuda.device_count()


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container around us, can ever give."""
    import psutil

    total: int = psutil.virtual_memory().total
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def size(count: float) -> str:
    """Bytes for people: `2.1 GB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def _short(recipe: Recipe, path: tuple[str, ...], what: str, kind: str, needed: float, present: float) -> list[Problem]:
    if needed <= present + 1e-9:
        return []
    rule = f"this machine can never give {needed:g} {kind} ({what}): it has {present:g}"
    return [recipe.problem(path, rule, None, "ask for less, or join a larger cluster with `address: auto`")]


def _short_memory(recipe: Recipe, path: tuple[str, ...], what: str, needed: int, present: int) -> list[Problem]:
    if needed <= present:
        return []
    rule = f"{what} needs at least {size(needed)} of memory; this machine has {size(present)}"
    return [recipe.problem(path, rule, None, "ask for fewer, or join a larger cluster with `address: auto`")]
