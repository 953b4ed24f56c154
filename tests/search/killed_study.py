"""The driver that `test_study_kill.py` kills: a study in a file, its points on standard output as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mergefront


def main(folder: Path) -> None:
    def score(params: Mapping[str, Any], items: None = None) -> dict[str, Any]:
        with (folder / "scored.log").open("a") as log:
            log.write(json.dumps(params) + "\n")
        time.sleep(0.01)
        x, y = params["x"], params["y"]
        return {"near": (1 - (x - 0.2) ** 2 - y**2, 0.01), "far": (1 - (x - 0.9) ** 2 - y**2, 0.01)}

    study = mergefront.search(
        score,
        {"x": (0.0, 1.0), "y": (-1.0, 1.0)},
        objectives={"near": "max", "far": "max"},
        budget=40,
        sampler="qmc",
        seed=3,
        storage=folder / "study.db",
    )
    print(json.dumps([[point.id, dict(point.params), dict(point.values), point.state] for point in study.points]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
