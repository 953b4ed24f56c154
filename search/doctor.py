"""What a bug report needs, and what commonly goes wrong on a machine."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from .history import machine

STALE_LOCK_S = 600.0


def findings() -> Iterator[str]:
    """Lines for a person: versions, resources, then warnings with their remedies."""
    facts = machine()
    yield f"system: {facts['system']}; Python {facts['python']}"
    yield f"cpus: {facts['cpus']}; memory: {facts['memory_gib']} GiB; free disk here: {_free_gib():.0f} GiB"
    yield from (f"{name} {version}" for name, version in facts["versions"].items())
    yield _gpus()
    warnings = [*_foreign_packages(), *_stale_locks(), *_ray_token()]
    yield from (f"warning: {warning}" for warning in warnings)
    if not warnings:
        yield "no known trouble found"


def _free_gib() -> float:
    return shutil.disk_usage(".").free / 2**30


def _gpus() -> str:
    import torch

    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    return f"gpus: {count}{' (' + names + ')' if names else ''}; torch {torch.__version__}"


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


def _ray_token() -> Iterator[str]:
    if (Path.home() / ".ray" / "auth_token").exists() and "RAY_AUTH_MODE" not in os.environ:
        yield "~/.ray/auth_token exists: `ray start` would ask for it; set RAY_AUTH_MODE to disabled or token"
