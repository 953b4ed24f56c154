"""A recipe or a run: its database, its judges, who works on it, what the pool did last."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from search.errors import UserError
from search.recipe import Recipe, load_recipe


def lines(path: Path) -> Iterator[str]:
    """What can be reached of all that it names.

    Raises:
        UserError: no recipe and no run.
    """
    recipe = load_recipe(path)
    run = path if path.is_dir() else Path(recipe.resolve(recipe.storage)) if recipe.storage else None
    yield f"cluster.address: {recipe.cluster.address}; actors {recipe.cluster.evaluators.actors}"
    yield from _database(recipe, run)
    yield from _judges(recipe)
    if run is not None and run.is_dir():
        yield from _run(run)


def _database(recipe: Recipe, run: Path | None) -> Iterator[str]:
    from search._study.place import study_at
    from search.run.rundir import is_run
    from search.store import Store

    made = run is not None and is_run(run)
    if recipe.database == "sqlite" and not made:
        yield "database: sqlite, in the run directory that is not there yet"
        return
    try:
        store = study_at(recipe, run) if made and run is not None else Store(recipe.database, patience_s=5.0)
        began = time.perf_counter()
        store.reach()
        yield f"database: {store} answers after {1e3 * (time.perf_counter() - began):.0f} ms"
        store.close()
    except (UserError, RuntimeError) as error:
        yield f"warning: {error}"


def _judges(recipe: Recipe) -> Iterator[str]:
    from search._check.judges import used

    for path, judge in {path: judge for _, path, judge in used(recipe)}.items():
        from evaluators.judges.probe import probe

        found = probe(judge)
        yield f"judge {path[-1]}: {judge.endpoint}: {found.problem or 'answers'}"


def _run(run: Path) -> Iterator[str]:
    from search.run.journal import FILE
    from search.run.rundir import is_held, is_run

    if not is_run(run):
        yield f"run: {run} is no run directory"
        return
    pid = (run / ".lock").read_text().strip() if (run / ".lock").is_file() else ""
    yield f"run: {run} {f'is worked on by process {pid}' if is_held(run) else 'is free'}"
    log = run / FILE
    if log.is_file():
        events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[-2000:] if line]
        told = [event for event in events if event.get("error") or "lost" in event["event"]]
        yield f"log: {log}, {len(events)} lines looked at, {len(told)} of errors and losses"
        yield from (f"  {json.dumps({k: v for k, v in event.items() if k != 'trace'})[:300]}" for event in told[-10:])
