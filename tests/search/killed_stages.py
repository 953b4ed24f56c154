"""The driver that `test_stages_kill.py` kills: a search in stages; its candidates on standard output as JSON.

    python -m tests.search.killed_stages FOLDER [SECONDS]

`FOLDER/scored.log` gets a line when the scoring of a stage begins and one when it has ended, SECONDS apart.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.local import LocalPool
from search.scoring.objective import Job
from search.stopping import Rules
from search.store import Store
from search.study import run_search

from .test_study_stages import METHOD, Bumpy, staged

CANDIDATES = 24


@dataclass(frozen=True)
class Slow(Bumpy):
    """Takes its time, and says in the log where it is."""

    seconds: float = 0.0

    def score(self, job: Job) -> dict[str, Any]:
        what = f"{job.merge.params} from {job.ranges[0][1]}"
        self.note(f"begin {what}")
        time.sleep(self.seconds)
        found = super().score(job)
        self.note(f"end {what}")
        return found

    def note(self, line: str) -> None:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(line + "\n")


def decisions(folder: Path) -> list[list[Any]]:
    """What must not depend on kills: every candidate with its state, its place and the items that it was scored on."""
    store = Store(folder / "study.db")
    try:
        scores = store.scores("search")
        return [[p.id, p.key, p.state, p.turn, p.reason, shown(scores.get(p.id, {}))] for p in store.points(METHOD)]
    finally:
        store.close()


def shown(scores: Any) -> list[list[Any]]:
    return [[*name, score.value, score.stderr, score.n] for name, score in sorted(scores.items())]


def main(folder: Path, seconds: float) -> None:
    folder.mkdir(exist_ok=True)
    store = Store(folder / "study.db", owner=uuid4().hex)
    store.create()
    store.take_over()
    wanted = staged(folder, sampler="auto", rules=Rules(candidates=CANDIDATES))
    run_search(wanted, LocalPool(Slow(log=str(folder / "scored.log"), seconds=seconds)), store)
    store.close()
    print(json.dumps(decisions(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
