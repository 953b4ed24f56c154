"""Directories that are complete or absent: checkpoints to resume from, and the result."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ._errors import InputError
from ._types import Placement, TrainSpec

RECORD = "training.json"
MARK = "complete.json"


def is_complete(out: Path) -> bool:
    """Whether `out` holds a finished training.

    Raises:
        InputError: `out` exists and is something else, which a training must not overwrite.
    """
    if (out / RECORD).is_file():
        return True
    if out.exists():
        raise InputError(f"{out} exists and is not a finished training; choose another directory or remove it")
    return False


def mark_complete(
    checkpoint: Path, spec: TrainSpec, placement: Placement, workers: int, facts: Mapping[str, Any]
) -> None:
    """Say that every worker has written its part of `checkpoint`; call on one worker, after a barrier."""
    for part in checkpoint.rglob("*"):
        if part.is_file():
            _fsync(part)  # a mark must not outlive a power cut that what it speaks for did not
    mark = {"key": _resume_key(spec, placement, workers), **facts}
    temporary = checkpoint / f".{MARK}"
    with temporary.open("w") as file:
        json.dump(mark, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(checkpoint / MARK)


def last_complete(
    work: Path, spec: TrainSpec, placement: Placement, workers: int
) -> tuple[Path, dict[str, Any]] | None:
    """The newest complete checkpoint under `work` that this training, with this many workers, can continue.

    Optimizer states are cut by ZeRO stage and worker, so a checkpoint of another layout is passed over.
    """
    key = _resume_key(spec, placement, workers)
    found = []
    for mark in work.glob(f"checkpoint-*/{MARK}"):
        facts = json.loads(mark.read_text())
        if facts["key"] == key:
            found.append((int(mark.parent.name.removeprefix("checkpoint-")), mark.parent, facts))
    if not found:
        return None
    _, path, facts = max(found, key=lambda entry: entry[0])
    return path, facts


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` to write into; renamed to `out` on success, removed on failure."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*(path for path in temporary.rglob("*") if path.is_file()), temporary):
            _fsync(path)
        temporary.rename(out)
        _fsync(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _resume_key(spec: TrainSpec, placement: Placement, workers: int) -> str:
    cut = asdict(replace(placement, save_every=0, report_to=()))
    facts = {"spec": asdict(spec), "placement": cut, "workers": workers}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
