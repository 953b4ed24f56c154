"""A seal on every checkpoint that a run made: what it held when it was made, looked at again before it is used.

`seal.json` beside the record lists each file with its size and its SHA-256, and travels with it. `.stamps.json`, which
stays on this machine, has sizes and times of last change: where they are as they were, nothing is read, so looking at a
checkpoint of any size costs a stat of each file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from search._study.place import write_atomic
from search._training.inputs import file_hash
from search._training.model import Model, is_made
from search.errors import Problem, UserError

SEAL, STAMPS = "seal.json", ".stamps.json"


def seal(folder: Path) -> None:
    """Write down what a checkpoint that has just been made holds."""
    stamps = {name: _stamp(folder / name) for name in _files(folder)}
    held = {name: [stamp[0], file_hash(folder / name)] for name, stamp in stamps.items()}
    _write(folder / SEAL, held)
    _write(folder / STAMPS, stamps)


def check_seals(models: Iterable[Model]) -> None:
    """Refuse checkpoints that were changed after they were made; one whose seal a kill prevented gets it now.

    Raises:
        UserError: one problem for each, naming the first file that differs.
    """
    problems = []
    for model in models:
        if model.made == "given" or not is_made(model):
            continue
        if not (model.path / SEAL).is_file():
            seal(model.path)
            continue
        changed = _changed(model.path)
        if changed:
            rule = f"{model.name} is not as this run made it: {changed}"
            remedy = "remove the directory and it is made again, or put the file back"
            problems.append(Problem(str(model.path), None, "", rule, None, remedy))
    if problems:
        raise UserError(problems)


def _changed(folder: Path) -> str:
    """What differs from the seal, in words; "" if nothing does."""
    held = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    try:
        stamps = json.loads((folder / STAMPS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stamps = {}  # copied from elsewhere: read once
    present = _files(folder)
    for name in present:
        if name not in held:
            return f"{name} was added"
    now = {}
    for name, (size, *_, digest) in held.items():  # seals of earlier versions hold the time between the two
        if name not in present:
            return f"{name} is gone"
        now[name] = _stamp(folder / name)
        if now[name] != stamps.get(name) and (now[name][0] != size or file_hash(folder / name) != digest):
            return f"{name} was changed"
    if now != stamps:
        _write(folder / STAMPS, now)
    return ""


def _write(file: Path, content: dict[str, Any]) -> None:
    write_atomic(file, json.dumps(content, indent=1) + "\n")


def _files(folder: Path) -> list[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != SEAL and not os.path.basename(name).startswith("."))


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
