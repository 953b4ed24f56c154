"""A Ray Tune run over work that comes as it goes: a searcher that hands it out, a scheduler that can stop it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol


class Work(Protocol):
    """Configurations that are not all known beforehand: some wait for what others make, some are chosen by results."""

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """The next configuration with a number of its own; None while there is none to begin."""
        ...

    def finished(self) -> bool:
        """Whether there will never be another one."""
        ...


def searcher_of(work: Work, configs: dict[int, dict[str, Any]], check: Callable[[Any, str], None]) -> Any:
    """A Tune searcher that suggests what `work` has next; `configs` receives what was handed out, by number."""
    from ray.tune.search import Searcher

    class Queue(Searcher):  # type: ignore[misc]  # Ray ships no types
        """Knows nothing itself, so there is nothing of it to save or restore."""

        def suggest(self, trial_id: str) -> Any:
            found = work.next()
            if found is None:
                return Searcher.FINISHED if work.finished() else None
            index, config = found
            check(config, f"configuration {index}")
            configs[index] = config
            # As text: Tune would flatten a mapping into keys of its own.
            return {"index": index, "config": json.dumps(config)}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

        def __getstate__(self) -> dict[str, Any]:
            # Tune pickles its searcher for a restore that this package never does.
            return {}

    return Queue()


def stopper_of(stop: Callable[[int, dict[str, Any]], bool], listener: Any) -> Any:
    """A Tune scheduler that starts trials in order and asks `stop` at every report."""
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Stopper(FIFOScheduler):  # type: ignore[misc]  # Ray ships no types
        """The listener reads a report before or after this scheduler does; what counts is the report itself."""

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            ended, metrics = listener.read(result)
            stopped = metrics is not None and not ended and stop(trial.config["index"], metrics)
            return str(TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE)

        def __getstate__(self) -> dict[str, Any]:
            return {}

    return Stopper()
