"""What the job service must know of recipes and runs (`cluster.service.domain`), filled in by the one who knows.

The functions run in processes of the service's own and are found there by name.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.service.domain import Domain, Place, Plan, Refused
from search import plugins
from search._recipe import yaml_text
from search.errors import Problem, UserError
from search.recipe import Recipe, parse_recipe

AUTO = "auto"


def check(uploaded: bytes, place: Place) -> Plan:
    """Validate an uploaded recipe as `mergefront check` does; first what it may name, before anything is opened.

    Raises:
        Refused: with all problems found.
    """
    from search._check.machine import needs
    from search.check import check as checked
    from search.run.permits import below, problems

    try:
        if place.directory != str(Path(place.run).parent) and not below(place.directory, place.allowed):
            # What does not exist yet would pass as a hub id, and may exist when the job runs.
            remedy = f"name one below {', '.join(place.allowed) or 'nothing, until the operator permits a directory'}"
            raise UserError(Problem("", None, "directory", "is not permitted by this service", place.directory, remedy))
        with plugins.permitted(place.code):
            recipe = _parsed(uploaded, place)
            forbidden = problems(recipe, place.allowed)
            if forbidden:
                raise UserError(forbidden)
            report = checked(recipe, out=Path(place.run))
    except UserError as error:
        raise Refused(tuple(_row(problem) for problem in error.problems)) from None
    held = needs(recipe, 0)
    return Plan(
        name=recipe.name,
        candidates=recipe.search.candidates,
        cpus=max(held.search_cpus, held.training_cpus),
        gpus=max(held.search_gpus, held.training_gpus),
        summary=str(report),
    )


def _parsed(uploaded: bytes, place: Place) -> Recipe:
    """The recipe, to be run on the service's cluster whatever `cluster.address` says."""
    with tempfile.TemporaryDirectory(prefix="mergefront-") as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_bytes(uploaded)
        try:
            yaml_text.read(file)  # says what is wrong with the bytes, as everywhere
        except UserError as error:
            raise UserError(tuple(replace(problem, file=place.file) for problem in error.problems)) from None
    return parse_recipe(uploaded.decode("utf-8-sig"), file=place.file, directory=place.directory).on(AUTO)


def _row(problem: Problem) -> dict[str, Any]:
    fields = ("file", "line", "path", "rule", "value", "remedy")
    return {name: getattr(problem, name) for name in fields} | {"text": str(problem)}


def progress(run: Path) -> dict[str, Any] | None:
    """How far a run has come: the stage under way, points scored, models trained."""
    from search._recipe.chains import is_mixture
    from search.recipe import ExistingExpert
    from search.run.rundir import is_run, read_run
    from search.scoring.watch import POOL, SHOWN, failed

    if not is_run(run):
        return None
    with read_run(run) as opened:
        recipe, store = opened.recipe, opened.store
        entries = [*recipe.experts.values(), *recipe.baselines.values()]
        models = [model for model in entries if not is_mixture(model)]
        to_train = sum(not isinstance(model, ExistingExpert) for model in models)
        of = recipe.search.candidates + len(models) + 1
        totals = store.totals()
        stages = [event["name"] for event in store.events("stage")]
        finished = bool(store.events("finished"))
        pool, failures = store.get(POOL), failed(store)
    trained = _trained(run / "experts")
    share = 1.0 if finished else min(1.0, totals.turns / of)
    return {
        "stage": "finished" if finished else _stage(stages, to_train),
        "scored": totals.turns,
        "of": of,
        "trained": min(trained, to_train),
        "to_train": to_train,
        "share": round(share, 4),
        "pool": None if finished or pool is None else {name: pool[name] for name in SHOWN},
        "failures": failures,
    }


def _stage(ended: list[str], to_train: int) -> str:
    order = ("experts", "score", "search", "confirm", "export", "report")
    last = max((order.index(name) for name in ended if name in order), default=-1)
    return order[min(last + 1 if last >= 0 or to_train else 1, len(order) - 1)]


def _trained(experts: Path) -> int:
    """Checkpoints that are whole: they get their name when they are."""
    return sum(folder.is_dir() and not folder.name.startswith(".") for folder in experts.glob("*"))


def front(run: Path) -> dict[str, Any] | None:
    """The front document; None before the first score."""
    from search.api import front as front_of
    from search.run.rundir import is_run

    if not is_run(run) or not (document := front_of(run))["points"]:
        return None
    return document


def busy(run: Path) -> bool:
    """Whether a process works on a run: one whose cluster is gone may need a moment to notice."""
    from search.run.rundir import is_held

    return is_held(run)


def run_command(recipe: Path, directory: str, run: Path, elastic: bool) -> tuple[str, ...]:
    """Carry a recipe out on the cluster that the process belongs to."""
    options = ("--directory", directory, "--cluster", AUTO, *(("--elastic",) if elastic else ()))
    return (*_program(), "run", str(recipe), "--out", str(run), *options)


def export_command(run: Path, point: str, out: Path) -> tuple[str, ...]:
    """Export a point."""
    return (*_program(), "export", str(run), "--pick", f"#{point}", "--out", str(out))


def _program() -> tuple[str, ...]:
    """This very installation; a console script need not be on the PATH of a cluster's nodes."""
    return (os.path.abspath(sys.executable), "-c", "from search.cli import main; main()")


DOMAIN = Domain(check, progress, front, busy, run_command, export_command)
