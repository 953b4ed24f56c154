"""Trainings as work for one Ray Tune run: what may begin, what became of it, and what is tried next where one tunes.

A training begins when what it is made of exists; a tuned one is several trainings, each chosen by what the earlier ones
came to. All changes of trials are events of `study.db` before they count, so that a killed driver's successor goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search._recipe.training import Training
from search._recipe.trainings import override
from search._training import promote, tuner
from search._training.live import LiveTrainings
from search._training.model import Model, is_made
from search._training.seal import seal
from search._training.specs import spec_of
from search._training.worker import plain, rungs_of
from search.run.rundir import Run, log
from trainers._types import TrainSpec

if TYPE_CHECKING:
    from cluster.trials import TrialOutcome

UNMADE = "what it is made of could not be made"


class Trainings:
    """The work (`cluster.trials.Work`) of one Tune run."""

    def __init__(
        self,
        run: Run,
        models: Iterable[Model],
        known: Iterable[Model],
        split: Mapping[str, TrainSpec],
        live: LiveTrainings,
    ) -> None:
        """Nothing has begun.

        Args:
            run: open.
            models: to be trained.
            known: all models of the run.
            split: name of a tuned model -> its training without the rows that are held out.
            live: told of all that happens.
        """
        self.run, self.live, self.split = run, live, split
        self.known = {model.name: model for model in known}
        self.open = {model.name: model for model in models}
        self.failed: dict[str, str] = {}
        self.begun: dict[int, tuple[Model, int, float]] = {}
        self._running: set[int] = set()
        self._trials = {
            model.name: tuner.trials_of(run.store.events(tuner.EVENT), model.hash)
            for model in self.open.values()
            if model.tuning is not None
        }
        self._interrupted = {
            name: [trial.number for trial in trials if trial.state == "RUNNING"]
            for name, trials in self._trials.items()
        }

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """The next training that may begin."""
        for model in list(self.open.values()):
            if any(self._is_lost(name) for name in _made_of(model)):
                self._fail(model, UNMADE)
            elif all(is_made(self.known[name]) for name in _made_of(model)):
                found = self._trained(model) if model.tuning is None else self._tuned(model)
                if found is not None:
                    return found
        return None

    def finished(self) -> bool:
        """Whether nothing is left that has not begun."""
        return not self.open

    def _is_lost(self, name: str) -> bool:
        """Whether a model that is not made will not be made by this work either."""
        if is_made(self.known[name]):
            return False
        under_way = {self.begun[index][0].name for index in self._running}
        return name in self.failed or (name not in self.open and name not in under_way)

    def _trained(self, model: Model) -> tuple[int, dict[str, Any]]:
        del self.open[model.name]
        spec = self._mixed(model)
        assert model.trainer is not None
        config = plain(model.name, model.trainer, spec, model.placement, model.path, self._work(model.path.name))
        return self._begin(model, 0, config, spec.steps)

    def _tuned(self, model: Model) -> tuple[int, dict[str, Any]] | None:
        assert model.tuning is not None
        tuning = model.tuning
        while True:
            trials = self._trials[model.name]
            under_way = sum(self.begun[index][0].name == model.name for index in self._running)
            if tuning.concurrency and under_way >= tuning.concurrency:
                return None
            if self._interrupted[model.name]:
                number = self._interrupted[model.name].pop(0)
                if self._known(model, number).rungs and self._lags(model, number):
                    self._end(model, number, "STOPPED", reason="lagged at its last rung")
                    continue
                return self._trial(model, number)
            if len(trials) >= tuning.trials:
                if not under_way:
                    del self.open[model.name]
                    self._conclude(model)
                return None
            number = len(trials) + 1
            assert model.spec is not None
            params = tuner.ask(tuning, trials, model.spec.seed, model.name)
            twin = tuner.twin(trials, params)
            if twin is not None:
                self._log(model, number, state="RUNNING", params=params, same_as=twin.number)
                self._end(model, number, twin.state, metric=twin.metric, reason=twin.reason)
                continue
            self._log(model, number, state="RUNNING", params=params)
            return self._trial(model, number)

    def _trial(self, model: Model, number: int) -> tuple[int, dict[str, Any]]:
        trial, spec = self._known(model, number), self._spec(model, number)
        assert model.trainer is not None
        out = promote.folder(self.run, model) / f"{number:03d}"
        name = f"{model.hash}-{number:03d}"
        config = plain(model.name, model.trainer, spec, model.placement, out, self._work(name))
        assert model.tuning is not None
        rungs = rungs_of(spec.steps) if model.tuning.halving else ()
        config |= {"tuned": model.name, "rungs": list(rungs), "measured": list(trial.rungs), "run": name}
        return self._begin(model, number, config, spec.steps)

    def _spec(self, model: Model, number: int) -> TrainSpec:
        """The training of a trial: the recipe's with the tuned settings, on the rows that are not held out."""
        entry = self._entry(model)
        assert model.spec is not None
        for key, value in self._known(model, number).params.items():
            entry = override(entry, key, value)
        spec = spec_of(self.run.recipe, model.name, model.spec.base, entry)
        sources = self.split[model.name].sources if model.name in self.split else self._mixed(model).sources
        return replace(spec, sources=sources)

    def _entry(self, model: Model) -> Training:
        entry = self.run.recipe.entry(model.name)
        assert isinstance(entry, Training)
        return entry

    def _mixed(self, model: Model) -> TrainSpec:
        assert model.spec is not None
        return with_mixture(model.spec, None if model.mixture is None else self.known[model.mixture])

    def _work(self, name: str) -> Path:
        return self.run.scratch / "checkpoints" / name

    def _begin(self, model: Model, number: int, config: dict[str, Any], steps: int) -> tuple[int, dict[str, Any]]:
        index = len(self.begun)
        self.begun[index] = (model, number, time.monotonic())
        self._running.add(index)
        self.live.begin(index, self._label(index), steps)
        return index, config

    def _label(self, index: int) -> str:
        model, number, _ = self.begun[index]
        return f"{model.name} #{number}" if number else model.name

    def report(self, index: int, metrics: Mapping[str, Any]) -> None:
        """A worker reported."""
        self.live.report(index, metrics)

    def stop(self, index: int, metrics: Mapping[str, Any]) -> bool:
        """Whether a trial that reported lags; a rung's value is kept the first time that it is seen."""
        model, number, _ = self.begun[index]
        if not number or "rung" not in metrics:
            return False
        if int(metrics["rung"]) in self._known(model, number).rungs:
            return False
        self._log(model, number, rung=int(metrics["rung"]), metric=metrics["metric"])
        return self._lags(model, number)

    def _lags(self, model: Model, number: int) -> bool:
        assert model.tuning is not None
        trials = self._trials[model.name]
        places = {
            trial.number: {step: place for place, step in enumerate(rungs_of(self._spec(model, trial.number).steps))}
            for trial in trials
        }
        return tuner.lags(model.tuning, trials, number, places)

    def end(self, outcome: TrialOutcome) -> None:
        """A training has ended; what was made is sealed, and a tuned model whose last trial it was is concluded."""
        index = outcome.index
        if index not in self._running:
            return
        self._running.discard(index)
        model, number, began = self.begun[index]
        if number:
            self._ended(model, number, index, outcome, time.monotonic() - began)
            return
        log(self.run, "trained" if outcome.error is None else "training failed", name=model.name, error=outcome.error)
        if outcome.error is not None:
            self._fail(model, outcome.error)
            self.live.end(index, "failed", outcome.error)
            return
        seal(model.path)
        shutil.rmtree(self._work(model.path.name), ignore_errors=True)
        self.live.end(index, "done")

    def _ended(self, model: Model, number: int, index: int, outcome: TrialOutcome, seconds: float) -> None:
        assert model.tuning is not None
        measured = outcome.metrics.get("measured")
        work = self._work(f"{model.hash}-{number:03d}")
        if outcome.error is not None:
            self._end(model, number, "FAILED", reason=outcome.error, seconds=seconds)
            self.live.end(index, "failed", outcome.error)
            shutil.rmtree(promote.folder(self.run, model) / f"{number:03d}", ignore_errors=True)
        elif outcome.stopped or measured is None:
            rung = max(self._known(model, number).rungs, default=0)
            self._end(model, number, "STOPPED", reason=f"lagged at step {rung}", seconds=seconds)
            self.live.end(index, "stopped")
        else:
            self._end(model, number, "COMPLETE", metric=measured, seconds=seconds)
            self.live.end(index, "done", f"{model.tuning.metric} {measured:.4g}")
        shutil.rmtree(work, ignore_errors=True)

    def _end(
        self,
        model: Model,
        number: int,
        state: str,
        *,
        metric: float | None = None,
        reason: str = "",
        seconds: float = 0.0,
    ) -> None:
        detail: dict[str, Any] = {"state": state, "reason": reason[:2000], "seconds": seconds}
        self._log(model, number, **detail, **({} if metric is None else {"metric": metric}))
        log(self.run, "trial ended", name=model.name, number=number, state=state, metric=metric, reason=reason)

    def _log(self, model: Model, number: int, **detail: Any) -> None:
        self.run.store.log(tuner.EVENT, expert=model.hash, number=number, **detail)
        self._trials[model.name] = tuner.trials_of(self.run.store.events(tuner.EVENT), model.hash)

    def _known(self, model: Model, number: int) -> tuner.Trial:
        return next(trial for trial in self._trials[model.name] if trial.number == number)

    def _conclude(self, model: Model) -> None:
        assert model.tuning is not None
        trials = self._trials[model.name]
        best = tuner.best_of(model.tuning, trials)
        if best is None:
            why = "; ".join(f"trial {trial.number}: {trial.reason or trial.state.lower()}" for trial in trials)
            self._fail(model, f"none of its {len(trials)} trials came to an end: {why}")
            return
        promote.promote(self.run, model, trials, best)
        log(self.run, "tuned", name=model.name, best=best.number, metric=best.metric, params=dict(best.params))

    def _fail(self, model: Model, reason: str) -> None:
        self.open.pop(model.name, None)
        self.failed[model.name] = reason


def with_mixture(spec: TrainSpec, found: Model | None) -> TrainSpec:
    """A training with the mixture that a remix run found; without one, as it is."""
    if found is None:
        return spec
    from trainers._mixture import read_mixture

    by_name = {source.name: source for source in spec.sources}
    sources = tuple(
        replace(by_name[domain.source], probability=domain.probability, languages=domain.languages)
        for domain in read_mixture(str(found.path))
        if domain.probability > 0
    )
    return replace(spec, sources=sources)


def _made_of(model: Model) -> tuple[str, ...]:
    return (*model.parents, *([model.mixture] if model.mixture else []))
