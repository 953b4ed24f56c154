"""A recipe as a job for a cluster: what its processes hold, which secrets it names, where its results go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluster._errors import InputError
from cluster.deploy.job import Group, Job
from cluster.storage import urls
from search._check.checkpoints import inspect
from search._check.machine import SEARCH_CPUS, needs
from search.errors import Problem, UserError
from search.recipe import Recipe, load_recipe


def job_of(file: Path, storage: str | None = None) -> Job:
    """What a recipe asks of a cluster.

    Args:
        file: the recipe; the base need not be here.
        storage: in place of the recipe's.

    Raises:
        UserError: no valid recipe, or storage at a URL that cannot be used.
    """
    recipe = load_recipe(file)
    if storage is not None and urls.is_url(storage):
        try:
            urls.parse(storage)
        except InputError as error:
            raise UserError(Problem("", None, "--storage", str(error))) from None
    parameters = inspect(recipe).parameters if os.path.isabs(recipe.resolve(recipe.base)) else 0
    held = needs(recipe, parameters)
    actors, workers = recipe.cluster.evaluators, recipe.cluster.trainers
    count = round((held.search_cpus - SEARCH_CPUS) / actors.cpus)
    groups = [Group(count, actors.cpus, actors.gpus, held.actor_bytes)]
    if held.training_cpus:
        # With GPUs the states lie on them: a worker's memory holds the checkpoint that it reads.
        share = held.actor_bytes if workers.gpus else held.training_bytes // workers.workers
        groups.append(Group(workers.workers, workers.cpus, workers.gpus, share))
    kind = "cpu" if not any(group.gpus for group in groups) else "vllm" if actors.engine == "vllm" else "cuda"
    return Job(
        name=recipe.name,
        recipe=os.path.abspath(recipe.file),
        text=Path(recipe.file).read_text(encoding="utf-8"),
        groups=tuple(groups),
        variables=_variables(recipe),
        storage=storage or recipe.storage,
        image_kind=kind,
    )


def programs() -> str:
    """Folder of this very installation's programs."""
    return os.path.dirname(os.path.abspath(sys.executable))


def write(files: dict[str, str], out: Path | None) -> list[str]:
    """Write manifests into a folder, which is made if need be; without one, the texts themselves.

    Raises:
        UserError: a file of that name with other contents, or a folder that cannot be written; nothing was written.
    """
    if out is None:
        return [text.rstrip("\n") for text in files.values()]
    for name, text in files.items():
        if (out / name).exists() and (out / name).read_text(encoding="utf-8") != text:
            rule, remedy = "exists and holds something else", "remove it, or name another --out"
            raise UserError(Problem(str(out / name), None, "--out", rule, None, remedy))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(Problem(str(out), None, "--out", f"cannot be written ({error.strerror})")) from None
    return [str(out / name) for name in files]


def _variables(recipe: Recipe) -> tuple[str, ...]:
    """Environment variables that hold what the recipe must not: judges' keys, the database's password."""
    found = [str(judge["key"]) for judge in recipe.judges.values() if judge.get("key")]
    if recipe.database != "sqlite":
        found.append("PGPASSWORD")
    return tuple(dict.fromkeys(found))
