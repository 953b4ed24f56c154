"""What the service must be told about recipes and runs: it knows where and when, never what a merge is.

`search.commands.service` fills it in. The functions run in processes of their own (`worker`), so they are module-level
functions that pickle by name, and so are their arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where an uploaded recipe stands and what it may name.

    Attributes:
        file: its name for messages.
        directory: absolute; relative paths of the recipe start here.
        run: its run directory, absolute.
        allowed: directories and URL prefixes below which files may lie.
        code: whether it may name code (`package.module:function`).
    """

    file: str
    directory: str
    run: str
    allowed: tuple[str, ...]
    code: bool


@dataclass(frozen=True)
class Plan:
    """What a checked recipe will do.

    Attributes:
        name: of the run.
        candidates: to score.
        cpus, gpus: held at the same time, at most.
        summary: estimates, for people.
    """

    name: str
    candidates: int
    cpus: float
    gpus: float
    summary: str


class Refused(Exception):
    """A recipe that cannot run. `problems`: dicts with file, line, path, rule, value, remedy and text (one line)."""

    def __init__(self, problems: tuple[Mapping[str, Any], ...]):
        self.problems = problems
        super().__init__(problems)


@dataclass(frozen=True)
class Permits:
    """What recipes may name.

    Attributes:
        allowed: directories (absolute) and URL prefixes.
        code: whether `package.module:function` is accepted.
    """

    allowed: tuple[str, ...] = ()
    code: bool = False


@dataclass(frozen=True)
class Domain:
    """The functions.

    Attributes:
        check: (recipe as uploaded, its place) -> a plan; raises Refused.
        progress: run directory -> JSON object with `stage`, `scored`, `of`; None before the run exists.
        front: run directory -> the front document; None before anything was scored.
        busy: run directory -> whether a process of an earlier attempt still works on it.
        run_command: (recipe file, directory of relative paths, run directory, whether the cluster adds nodes on
            demand) -> arguments that carry the recipe out on the cluster that the process belongs to.
        export_command: (run directory, point, directory to make) -> arguments that export a point.
    """

    check: Callable[[bytes, Place], Plan]
    progress: Callable[[Path], dict[str, Any] | None]
    front: Callable[[Path], dict[str, Any] | None]
    busy: Callable[[Path], bool]
    run_command: Callable[[Path, str, Path, bool], tuple[str, ...]]
    export_command: Callable[[Path, str, Path], tuple[str, ...]]
