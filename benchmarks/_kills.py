"""A search on three nodes while one after the other is killed: the same scored set as an undisturbed one.

The real program (`mergefront run`), joined to a cluster of simulated nodes, with the real scoring of a small model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from search.store import Store

from ._nodes import Nodes, nodes

KILLS = 10
EVERY_S = 30.0
DOWN_S = 5.0
"""From the end of a node to the start of another in its place."""
LIMIT_S = 1800.0
PROGRAM = (sys.executable, "-c", "from search.cli import main; main()")


def world(folder: Path, candidates: int, address: str, actors: int = 3) -> Path:
    """Two experts that exist, one method, and a sampler whose points do not depend on the order of answers."""
    from tests.cluster.service.runs import world as small

    recipe = small(folder, candidates)
    text = recipe.read_text().replace("  candidates:", "  sampler: qmc\n  candidates:")
    section = f"  address: {address}\n  evaluators: {{actors: {actors}, cpus: 1}}"
    text = text.replace("  evaluators: {actors: 1, cpus: 0.9}", section)
    recipe.write_text(text)
    return recipe


def scored(run: Path) -> dict[str, Any]:
    """`scored_in` of a run directory; nothing before it has a database."""
    if not (run / "study.db").exists():
        return {}
    store = Store(run / "study.db")
    try:
        return scored_in(store)
    finally:
        store.close()


def scored_in(store: Store) -> dict[str, Any]:
    """Content key of every merge -> its state and its scores on the search split."""
    scores = store.scores("search")
    merges = [point for point in store.points() if point.kind == "merge"]
    assert len({point.key for point in merges}) == len(merges), "a candidate stands in two rows"
    found: dict[str, Any] = {}
    for point in merges:
        told = scores.get(point.id, {})
        found[point.key] = [point.state, sorted([*name, score.value, score.n] for name, score in told.items())]
    return found


def searched(
    recipe: Path, out: Path, cluster: Nodes | None = None, kills: int = 0, every_s: float = 0
) -> dict[str, Any]:
    """Run `mergefront search`; with `kills`, a node is killed every so often once candidates are scored."""
    log = out.with_suffix(".log")
    began, killed = time.monotonic(), 0
    with log.open("w") as file:
        command = [*PROGRAM, "run", str(recipe), "--out", str(out)]
        driver = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            following = 0.0
            while driver.poll() is None:
                assert time.monotonic() - began < LIMIT_S, log.read_text()
                time.sleep(0.2)
                if cluster is None or killed == kills or not _merges(out):
                    continue
                following = following or time.monotonic() + 1.0
                if time.monotonic() > following:
                    cluster.kill(killed % len(cluster.alive))
                    killed += 1
                    time.sleep(min(DOWN_S, every_s / 2))
                    cluster.add()
                    following = time.monotonic() + every_s - min(DOWN_S, every_s / 2)
        finally:
            if driver.poll() is None:
                driver.kill()
    assert driver.returncode == 0, log.read_text()[-3000:]
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    lost = [event for event in events if event["event"] in ("node lost", "worker lost")]
    return {"seconds": round(time.monotonic() - began, 1), "killed": killed, "lost": len(lost)}


def _merges(out: Path) -> int:
    try:
        return sum(state == "COMPLETE" for state, _ in scored(out).values())
    except sa.exc.SQLAlchemyError:
        return 0  # its tables are not there yet


def kills(count: int = KILLS, every_s: float = EVERY_S, candidates: int = 0) -> dict[str, Any]:
    """The same recipe without and with kills; what was scored, compared."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    candidates = candidates or int(5.5 * count * every_s)  # two cores score up to 5.7 a second
    with tempfile.TemporaryDirectory() as name, nodes(3, cpus=1) as cluster:
        folder = Path(name)
        recipe = world(folder / "world", candidates, cluster.address)
        quiet = searched(recipe, folder / "quiet")
        disturbed = searched(recipe, folder / "disturbed", cluster, count, every_s)
        expected, found = scored(folder / "quiet"), scored(folder / "disturbed")
        tries = _tries(folder / "disturbed")
    return {
        "nodes": 3,
        "every_s": every_s,
        "candidates": candidates,
        "undisturbed": quiet,
        "disturbed": disturbed,
        "scored": len(found),
        "lost": len(expected.keys() - found.keys()),
        "additional": len(found.keys() - expected.keys()),
        "failed": sum(state != "COMPLETE" for state, _ in found.values()),
        "same_scores": expected == found,
        "tries": tries,
    }


def _tries(out: Path) -> dict[str, int]:
    store = Store(out / "study.db")
    try:
        counts: dict[str, int] = {}
        for point in store.points():
            counts[str(point.tries)] = counts.get(str(point.tries), 0) + 1
        return counts
    finally:
        store.close()
