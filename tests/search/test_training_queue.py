"""What is trained next, and what becomes of it: the queue of a Tune run, without Tune and without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.trials import TrialOutcome
from search._training import tuner
from search._training.live import LiveTrainings
from search._training.plan import plan
from search._training.queue import Trainings
from search.recipe import load_recipe
from search.run.progress import Display
from search.run.rundir import Run, open_run
from tests.search.test_recipe_trainings import CHAINS
from tests.search.test_training_plan import Hashes, recipe_in

TUNE = "tune: {learning_rate: {low: 1e-5, high: 1e-3, log: true}}"
CHOICES = "tune: {learning_rate: [5.0e-4, 5.0e-3]}, trials: 4, concurrency: 1, scheduler: SCHEDULER"


@contextmanager
def queue(folder: Path, scheduler: str = "fifo") -> Iterator[tuple[Run, Trainings]]:
    """The tuned model of the recipe, over two settings in four trials."""
    recipe_in(folder)  # makes the files
    file = folder / "recipe.yaml"
    file.write_text(CHAINS.replace(TUNE, CHOICES.replace("SCHEDULER", scheduler)))
    recipe = load_recipe(file)
    with open_run(recipe, folder / "run", {}) as run:
        known = plan(recipe, run.experts, Hashes())
        tuned = [model for model in known if model.name == "tuned"]
        yield run, Trainings(run, tuned, known, {}, LiveTrainings(Display(quiet=True)))


def carried_out(work: Trainings, outcome: Any, limit: int = 20) -> list[float]:
    """Every training that is handed out ends at once; their rates, in order."""
    rates: list[float] = []
    for _ in range(limit):
        begun = work.next()
        if begun is None:
            return rates
        index, config = begun
        rates.append(config["spec"]["learning_rate"])
        work.end(outcome(index, rates[-1]))
    raise AssertionError("it hands out trainings without end")


def failed(index: int, rate: float) -> TrialOutcome:
    return TrialOutcome(index, {}, {}, "it diverged")


@pytest.mark.timeout(60)
def test_settings_that_were_tried_are_not_trained_again(tmp_path: Path) -> None:
    with queue(tmp_path) as (run, work):
        rates = carried_out(work, failed)
        events = run.store.events(tuner.EVENT)
        assert work.finished()
    assert sorted(rates) == sorted(set(rates)), "two settings, four trials, and each setting once"
    trials = tuner.trials_of(events, events[0]["expert"])
    assert [trial.number for trial in trials] == [1, 2, 3, 4]
    assert {trial.state for trial in trials} == {"FAILED"}
    assert sum(bool(trial.same_as) for trial in trials) == 4 - len(rates)
    assert work.failed["tuned"].startswith("none of its 4 trials came to an end: trial 1: it diverged")


@pytest.mark.parametrize(("scheduler", "rungs"), [("fifo", []), ("asha", [2, 4])])
def test_only_a_race_is_measured_on_the_way(tmp_path: Path, scheduler: str, rungs: list[int]) -> None:
    with queue(tmp_path, scheduler) as (_, work):
        begun = work.next()
    assert begun is not None
    assert begun[1]["rungs"] == rungs
