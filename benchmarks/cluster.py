"""The cluster part measured: dispatch of candidates, nodes that die, and what else ends or starves a run.

    python -m benchmarks.cluster [dispatch kills faults] [--out benchmarks/results/cluster.json]

Several Ray nodes on one machine: real processes, sockets and kills; one disk and one set of cores. Candidates of
`dispatch` sleep for 200 ms, so that the cores are free for what is measured. The machine may be shared: CPU time stands
beside wall time, and every figure is the median of several runs. The service's load: `python -m benchmarks.service`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from ._dispatch import measure
from ._faults import faults
from ._kills import kills
from ._nodes import nodes

ACTORS = (1, 2, 4, 8)
SLEEP_S = 0.2
PER_ACTOR = 60
"""Candidates for each actor: 12 seconds of sleep."""
REPEATS = 3


def dispatch() -> dict[str, Any]:
    """Searches with 1 to 8 actors on four nodes, several times in turn."""
    from cluster.session import session

    rows: list[dict[str, Any]] = []
    with nodes(4, cpus=2) as cluster, session(cluster.address):
        for _ in range(REPEATS):
            for actors in ACTORS:
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(measure(Path(folder), actors, PER_ACTOR * actors, SLEEP_S))
                print(json.dumps(rows[-1]), flush=True)
    figures = {}
    for actors in ACTORS:
        same = [row for row in rows if row["actors"] == actors]
        keys = ("of_linear", "busy_share", "in_worker_ms", "idle_ms", "driver_cpu_ms", "broker_cpu_ms")
        figures[str(actors)] = {key: statistics.median(row[key] for row in same) for key in keys}
    return {"sleep_s": SLEEP_S, "goal_of_linear": 0.9, "goal_driver_ms": 20.0, "median": figures, "runs": rows}


def main() -> None:
    parts = {"dispatch": dispatch, "kills": kills, "faults": faults}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(parts), choices=[*parts, []])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out is not None and given.out.exists() else {}
    for name in given.parts:
        found |= {"cores": os.cpu_count(), name: parts[name]()}
        text = json.dumps(found, indent=1)
        if given.out is not None:
            given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
