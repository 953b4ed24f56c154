"""What ends or starves a run half-way, on the real program: does it come to the scored set of an undisturbed one?"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.store import Store
from tests.search import postgresql

from ._kills import LIMIT_S, PROGRAM, scored_in, world

CANDIDATES = 24
FULL_S = 20.0
DISK_MB = 48


class Run:
    """A driver in the background; `place` is where its rows are."""

    def __init__(self, recipe: Path, out: Path, place: Callable[[], Store]) -> None:
        self.recipe, self.out, self._place = recipe, out, place
        self.commands = 0
        self.said = ""

    def go(self, at: Callable[[subprocess.Popen[bytes]], None] = lambda _: None) -> int:
        """The command, to its end; `at` is called once a third of the candidates are scored. Its exit status."""
        self.commands += 1
        log = self.recipe.parent / f"{self.out.name}.log"
        with log.open("ab") as file:
            command = [*PROGRAM, "run", str(self.recipe), "--out", str(self.out)]
            driver = subprocess.Popen(command, stdout=file, stderr=file)
        began, done = time.monotonic(), False
        while driver.poll() is None:
            assert time.monotonic() - began < LIMIT_S, log.read_text()[-3000:]
            if not done and self.count() >= CANDIDATES // 3:
                done = True
                at(driver)
            time.sleep(0.2)
        lines = [line for line in log.read_text().splitlines() if line.startswith("mergefront: ")]
        self.said = lines[-2] if len(lines) > 1 else ""
        return driver.returncode

    def scored(self) -> dict[str, Any]:
        """What it has scored."""
        store = self._place()
        try:
            return scored_in(store)
        finally:
            store.close()

    def count(self) -> int:
        """How many merges it has scored."""
        try:
            return sum(state == "COMPLETE" for state, _ in self.scored().values())
        except Exception:  # no database yet, or none for the moment: that is what is measured here
            return 0


def in_run(out: Path) -> Callable[[], Store]:
    """The database of a run directory."""

    def place() -> Store:
        if not (out / "study.db").exists():
            raise FileNotFoundError(out)
        return Store(out / "study.db")

    return place


def told(run: Run, status: int, expected: dict[str, Any]) -> dict[str, Any]:
    """What became of a fault."""
    found = run.scored()
    return {
        "commands": run.commands,
        "exit_status": status,
        "lost": len(expected.keys() - found.keys()),
        "additional": len(found.keys() - expected.keys()),
        "same_scores": found == expected,
        "said": run.said,
    }


def driver_killed(recipe: Path, folder: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """SIGKILL to the driver, then the same command."""
    run = Run(recipe, folder / "driver", in_run(folder / "driver"))
    first = run.go(lambda driver: driver.send_signal(signal.SIGKILL))
    assert first == -signal.SIGKILL
    return told(run, run.go(), expected)


def disk_full(recipe: Path, folder: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """The disk of the run directory is filled to its last byte for a while."""
    with small_disk(folder / "disk") as disk:
        run = Run(recipe, disk / "run", in_run(disk / "run"))

        def fill(_driver: subprocess.Popen[bytes]) -> None:
            threading.Thread(target=filled, args=(disk,), daemon=True).start()

        status = run.go(fill)
        if status:
            status = run.go()
        return told(run, status, expected)


def database_restarted(recipe: Path, folder: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL is stopped at once, and started again after ten seconds."""
    server = postgresql.start()
    try:
        own = recipe.with_name("postgresql.yaml")
        own.write_text(recipe.read_text() + f"database: {server.url}\n")
        out = folder / "postgresql"

        def place() -> Store:
            from search._study.place import study_at
            from search.recipe import load_recipe

            return study_at(load_recipe(own), out)

        def restart() -> None:
            server.control("stop", "-m", "immediate")
            time.sleep(10)
            server.control("start")

        run = Run(own, out, place)
        status = run.go(lambda _: threading.Thread(target=restart).start())
        return told(run, status, expected)
    finally:
        postgresql.stop(server)


def service_killed(recipe: Path, folder: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """SIGKILL to the job service while a job runs; its disk is then full for a while; started again."""
    from tests.cluster.service.server import service, until

    with (
        small_disk(folder / "service") as disk,
        service(disk / "state", "--cpus=2", "--allow", str(recipe.parent)) as running,
    ):
        job = running.client.submit(recipe)["id"]
        run = disk / "state" / "jobs" / job / "run"
        watch = Run(recipe, run, in_run(run))
        until("a third is scored", lambda: watch.count() >= CANDIDATES // 3, LIMIT_S)
        running.stop(signal.SIGKILL)
        filled(disk)
        running.start()
        done = running.client.wait(job, limit_s=LIMIT_S)
        return {**told(watch, 0, expected), "state": done["state"], "attempts": done["attempt"], "commands": 1}


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A file system of its own size; needs root."""
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def filled(disk: Path) -> None:
    """Leave no byte free for `FULL_S` seconds."""
    filler = disk / "filler"
    until = time.monotonic() + FULL_S
    with filler.open("wb", buffering=0) as file:
        while time.monotonic() < until:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                time.sleep(0.02)  # what others give back is taken as well
    filler.unlink()


FAULTS = {
    "driver killed": driver_killed,
    "disk full for 20 s": disk_full,
    "PostgreSQL restarted": database_restarted,
    "service killed, disk full": service_killed,
}


def faults(names: tuple[str, ...] = tuple(FAULTS)) -> dict[str, Any]:
    """Every fault, against a run without any."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = Path(tempfile.mkdtemp(prefix="mergefront-faults-"))
    try:
        recipe = world(folder / "world", CANDIDATES, "local", actors=1)
        quiet = Run(recipe, folder / "quiet", in_run(folder / "quiet"))
        status = quiet.go()
        assert status == 0, (recipe.parent / "quiet.log").read_text()[-3000:]
        expected = quiet.scored()
        found = {}
        for name in names:
            found[name] = FAULTS[name](recipe, folder, expected)
            print(name, found[name], flush=True)
        return {"candidates": CANDIDATES, "scored_undisturbed": len(expected), **found}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
