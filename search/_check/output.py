"""Whether a run directory can be used: empty, or holding this recipe's run, writable, on a disk with room."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from search._check.machine import Needs, size
from search._recipe.lock import differences
from search._recipe.yaml_text import KeyPath
from search.errors import Problem
from search.recipe import LOCK, RECIPE, Recipe

Where = tuple[KeyPath, str]
"""The key that names the directory, and "" ; or (), and the directory as the command line gave it."""


def problems(recipe: Recipe, directory: Path, where: Where) -> tuple[Problem, ...]:
    """Why the run cannot be written to `directory`."""

    def refuse(rule: str, remedy: str) -> tuple[Problem, ...]:
        path, given = where
        if given:
            return (Problem(given, None, "--out", rule, None, remedy),)
        return (recipe.problem(path, rule, f"'{recipe.storage}'", remedy),)

    other = "name another directory with --out"
    parent = _nearest_existing(directory)
    if not parent.is_dir():
        return refuse(f"{parent} is not a directory", other)
    if not os.access(parent, os.W_OK | os.X_OK):
        return refuse(f"{parent} cannot be written to", f"change its permissions, or {other}")
    if not directory.exists():
        return ()
    lock = directory / LOCK
    if lock.exists():
        return _resumed(recipe, lock, refuse, other)
    if (directory / RECIPE).exists() and (directory / RECIPE).samefile(recipe.file):
        return refuse("is the recipe's own directory", other)
    foreign = sorted(entry.name for entry in directory.iterdir() if not _harmless(entry, recipe))
    if foreign:
        more = "" if len(foreign) == 1 else f" and {len(foreign) - 1} more"
        return refuse(f"holds files that are no run ({foreign[0]}{more})", f"empty it, or {other}")
    return ()


def disk_problems(recipe: Recipe, directory: Path, needs: Needs) -> tuple[Problem, ...]:
    """A disk too full for what a new run will write; a run that is resumed has written part of it already."""
    needed = needs.expert_bytes + needs.export_bytes
    if (directory / LOCK).exists():
        return ()
    free = shutil.disk_usage(_nearest_existing(directory)).free
    if needed <= free:
        return ()
    rule = f"experts and exports need about {size(needed)}; {size(free)} are free"
    return (recipe.problem(("storage",), rule, None, "free some space, or name another disk with --out"),)


def _resumed(recipe: Recipe, lock: Path, refuse: Any, other: str) -> tuple[Problem, ...]:
    """Problems of a directory that holds a run: another recipe's, or one that cannot be read."""
    try:
        held = json.loads(lock.read_text("utf-8"))
        fingerprint, dump = held["fingerprint"], held["recipe"]
        if fingerprint == recipe.fingerprint():
            return ()
        changed = differences(dump, recipe.model_dump(mode="json"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        return tuple(refuse(f"holds a run whose {LOCK} cannot be read ({cause})", other))
    listed = ", ".join(changed[:8]) + (f" and {len(changed) - 8} more" if len(changed) > 8 else "")
    remedy = f"{other}; with --fork {lock.parent} it takes over what is still valid"
    return tuple(refuse(f"holds another recipe's run; these keys differ: {listed or 'none known here'}", remedy))


def _harmless(entry: Path, recipe: Recipe) -> bool:
    """What may lie in a new run directory: the recipe's own world, and what a start cut short left behind."""
    return entry.name.startswith(".") or Path(os.path.abspath(recipe.file)).is_relative_to(entry)


def _nearest_existing(path: Path) -> Path:
    """`path`, or its nearest ancestor that exists."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))
