"""Where a run's study lies: study.db in the run directory, or a schema of a PostgreSQL database that is its own."""

from __future__ import annotations

import json
import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import Problem, UserError
from search.store import Store

if TYPE_CHECKING:
    from search.recipe import Recipe

FILE, PLACE = "study.db", ".database.json"


def open_study(recipe: Recipe, path: Path) -> Store:
    """The study of a run that is written by a new driver; made if the run is new.

    Args:
        recipe: of the run; its `database` says where.
        path: run directory.

    Raises:
        UserError: the database cannot be opened, or it is not the one in which the run began.
    """
    if recipe.database != "sqlite" and not (path / PLACE).exists() and not (path / FILE).exists():
        name = re.sub(r"[^a-z0-9]+", "_", recipe.name.lower()).strip("_")[:40]
        run = uuid.uuid4().hex
        # Written first: whoever finds the schema knows whose it is.
        write_atomic(path / PLACE, json.dumps({"run": run, "schema": f"mergefront_{name}_{run[:8]}"}) + "\n")
    store = study_at(recipe, path, owner=uuid.uuid4().hex)
    store.create()
    if recipe.database != "sqlite":
        run = json.loads((path / PLACE).read_text("utf-8"))["run"]
        begun = any((path / "items").glob("*")) if (path / "items").is_dir() else False
        held = store.get("run")
        if held is None and not begun:
            store.put("run", run)
        elif held != run:
            store.close()
            rule = f"{store} does not hold this run's study"
            remedy = "name the database in which the run began, or give another --out"
            raise UserError(Problem(str(path), None, "database", rule, None, remedy))
    return store


def study_at(recipe: Recipe, path: Path, owner: str = "") -> Store:
    """The study of a run directory; nothing is opened yet.

    Raises:
        UserError: the run began in another kind of database.
    """
    place = path / PLACE
    if recipe.database == "sqlite":
        if place.exists():
            raise _moved(path, "this run keeps its study in PostgreSQL", "put the database of its recipe back")
        return Store(path / FILE, owner)
    if (path / FILE).exists() or not place.exists():
        raise _moved(path, f"this run keeps its study in {FILE}", "write database: sqlite")
    url = recipe.database
    if not re.search(r"[?&]schema=", url):
        schema = json.loads(place.read_text("utf-8"))["schema"]
        url += f"{'&' if '?' in url else '?'}schema={schema}"
    return Store(url, owner)


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old text or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _moved(path: Path, rule: str, remedy: str) -> UserError:
    return UserError(Problem(str(path), None, "database", rule, None, f"{remedy}, or give another --out"))
