"""A seal on every checkpoint that a run made: what it held when it was made, looked at again before it is used.

`seal.json` beside the record lists each file with its size, the time of its last change and its SHA-256. Where size and
time are as they were, nothing is read; so looking at a checkpoint of any size costs a stat of each file.
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

SEAL = "seal.json"


def seal(folder: Path) -> None:
    """Write down what a checkpoint that has just been made holds."""
    files = {name: [*_stamp(folder / name), file_hash(folder / name)] for name in _files(folder)}
    write_atomic(folder / SEAL, json.dumps(files, indent=1) + "\n")


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
    known: dict[str, Any] = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    present = _files(folder)
    for name in present:
        if name not in known:
            return f"{name} was added"
    touched = []
    for name, (size, changed, digest) in known.items():
        if name not in present:
            return f"{name} is gone"
        stamp = _stamp(folder / name)
        if stamp == [size, changed]:
            continue
        if stamp[0] != size or file_hash(folder / name) != digest:
            return f"{name} was changed"
        touched.append(name)
    if touched:  # copied or touched, with the same content
        fresh = {name: [*_stamp(folder / name), entry[2]] for name, entry in known.items()}
        write_atomic(folder / SEAL, json.dumps(fresh, indent=1) + "\n")
    return ""


def _files(folder: Path) -> list[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != SEAL and not os.path.basename(name).startswith("."))


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
