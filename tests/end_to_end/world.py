"""The real road on a small recipe: the demo world with shorter trainings and fewer merges."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from search.demo.world import write_world
from search.store import Store

PROGRAM = [sys.executable, "-c", "from search.cli import main; main()"]
METHODS = ("linear", "ties")
CANDIDATES = 8
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
LIMIT_S = 280.0


def small_world(folder: Path, *, baseline: bool = True) -> Path:
    """Write the demo world with a recipe that takes a minute; the recipe's path."""
    recipe = write_world(folder, candidates=CANDIDATES)
    text = recipe.read_text(encoding="utf-8")
    text = re.sub(r"steps: \d+", "steps: 16", text)
    text = re.sub(r"methods: \[.*\]", f"methods: [{', '.join(METHODS)}]", text)
    text = re.sub(r"  mix50:\n(    .*\n)+", "", text)
    if not baseline:
        text = re.sub(r"baselines:\n  mix15:\n(    .*\n)+", "", text)
    recipe.write_text(text, encoding="utf-8")
    return recipe


def run(*arguments: object, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s, env=ENVIRONMENT)


@contextmanager
def database(out: Path) -> Iterator[Store | None]:
    """The study of a run; None while a driver that has just begun has not made all of its tables."""
    if not (out / "study.db").exists():
        yield None
        return
    store = Store(out / "study.db")
    try:
        yield store if sa.inspect(store.engine).has_table("events") else None
    finally:
        store.close()


def _hear_interrupts() -> None:
    """A shell makes what it starts in the background deaf to Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kill_when(
    ready: Callable[[], bool],
    log: Path,
    *arguments: object,
    signal_: signal.Signals = signal.SIGKILL,
    limit_s: float = LIMIT_S,
) -> None:
    """Start the program, wait until `ready`, and end its driver with a signal."""
    with log.open("w") as output:
        command = [*PROGRAM, *map(str, arguments)]
        driver = subprocess.Popen(command, stdout=output, stderr=output, env=ENVIRONMENT, preexec_fn=_hear_interrupts)
        try:
            deadline = time.monotonic() + limit_s
            while not ready():
                assert driver.poll() is None, f"ended before it could be killed:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"never came to the point of the kill:\n{log.read_text()}"
                time.sleep(0.05)
        finally:
            driver.send_signal(signal_)
            driver.wait(timeout=30)
