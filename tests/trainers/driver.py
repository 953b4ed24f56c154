"""A driver to be killed: a training as a Tune trial, steps in a file (``python -m tests.trainers.driver FILE N``)."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cluster.session import session
from cluster.trials import run_trials
from tests.cluster.helpers import train_body


def main() -> None:
    config: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[1]).parent

    def write(index: int, metrics: dict[str, Any]) -> None:
        with (folder / "steps").open("a") as file:
            file.write(f"{metrics['step']}\n")

    with session("local", cpus=2):
        (outcome,) = run_trials(
            partial(train_body, storage=str(folder / "train")),
            [config],
            name="experts",
            storage=folder / sys.argv[2],
            resources=[{"CPU": 0}],
            concurrency=1,
            time_limit_s=1200,
            on_report=write,
        )
    sys.exit(outcome.error)


if __name__ == "__main__":
    main()
