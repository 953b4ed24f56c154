"""What a bug report needs, and what commonly goes wrong on a machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from search.results.history import machine as facts_of_machine

from ._doctor import cluster, machine, run

STALE_LOCK_S = 600.0


def findings(path: Path | None = None) -> Iterator[str]:
    """Lines for a person: versions, resources, Ray, then warnings with their remedies. No secret is among them.

    Args:
        path: a recipe or a run whose database, judges and log are looked at as well.

    Raises:
        UserError: it is neither.
    """
    facts = facts_of_machine()
    yield f"system: {facts['system']}; Python {facts['python']}"
    yield from machine.lines()
    yield from (f"{name} {version}" for name, version in facts["versions"].items())
    yield from cluster.lines()
    if path is not None:
        yield from run.lines(path)
    warnings = [*_foreign_packages(), *_stale_locks(), *machine.warnings(), *cluster.warnings()]
    yield from (f"warning: {warning}" for warning in warnings)
    if not warnings:
        yield "no known trouble found"


def _foreign_packages() -> Iterator[str]:
    owners = packages_distributions()
    for name in ("search", "trainers", "mergers", "evaluators", "cluster"):
        foreign = [owner for owner in owners.get(name, ()) if owner != "mergefront"]
        if foreign:
            yield f"the distribution {foreign[0]!r} also installs a package {name!r}; uninstall it here"


def _stale_locks() -> Iterator[str]:
    """A process killed while it compiled an extension leaves a lock behind on which every later load waits for ever."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache" / "torch_extensions"))
    for lock in root.glob("**/lock"):
        if time.time() - lock.stat().st_mtime > STALE_LOCK_S:
            yield f"{lock} is older than {STALE_LOCK_S / 60:.0f} minutes; remove it if no extension is being built"
