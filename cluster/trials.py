"""One Ray Tune run over a list of configurations: a trial each, failures as data."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ._errors import InputError, one_line
from ._leftovers import release_orphans, wait_for_orphans
from .fits import check_fits

if TYPE_CHECKING:
    import ray.tune

    from ._queue import Work

Report = Callable[[Mapping[str, Any]], None]
"""Sends metrics (JSON values) from a trial to the driver."""

Body = Callable[[dict[str, Any], Report], dict[str, Any] | None]
"""What a trial does: takes its configuration, reports on the way, returns its last metrics."""

_METRICS = "mergefront_metrics"  # ours as JSON: Tune writes two dozen entries of its own over those of the same name
_DONE = "mergefront_done"
_FAILED = "mergefront_failed"
_ORPHANS_EVERY_S = 2.0
_ORPHANS_S = 3.0
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # no trial tables on the console
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard copies of every report
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must end the run, not return half of it as if it were whole
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a report without the scheduler's metric would abort all trials
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the outcome carries the error
}


@dataclass(frozen=True)
class TrialOutcome:
    """How one trial ended.

    Attributes:
        index: place of its configuration in `configs`.
        config: the configuration.
        metrics: the latest value of everything that it reported or returned.
        error: None, or one line: why it failed. A trial that a scheduler stopped has not failed.
        stopped: whether a scheduler ended it before its body did.
    """

    index: int
    config: dict[str, Any]
    metrics: dict[str, Any]
    error: str | None
    stopped: bool = False


def run_trials(
    body: Body,
    configs: Sequence[dict[str, Any]],
    *,
    name: str,
    storage: Path,
    resources: Sequence[Mapping[str, float]],
    concurrency: int,
    time_limit_s: float,
    on_result: Callable[[TrialOutcome], None] | None = None,
    on_report: Callable[[int, dict[str, Any]], None] | None = None,
    scheduler: Any = None,
) -> tuple[TrialOutcome, ...]:
    """Run `body` once for every configuration, each as a trial of one Ray Tune run; needs an open Ray session.

    Args:
        body: runs in a process of its own; imported there by name, so it lives in an installed module.
        configs: JSON objects.
        name: of the Tune run; its files lie in `storage`/`name`.
        storage: directory, made absolute here (trials have working directories of their own).
        resources: placement-group bundles of one trial; the first holds the body, the others what the body starts
            inside its group. A body that starts groups of its own (``run_workers``) reserves nothing here.
        concurrency: trials at the same time.
        time_limit_s: for the whole run; what is then not finished has failed.
        on_result: called in this process when a trial ends.
        on_report: called in this process with the index and the metrics of every report.
        scheduler: a Ray Tune scheduler that carries its own metric and mode.

    Returns:
        One outcome per configuration, in order. A failed trial is an outcome with an error, never an exception.

    Raises:
        InputError: the cluster has not the resources of even one trial, or a configuration is not JSON.
    """
    if not configs:
        return ()
    for index, config in enumerate(configs):
        _check_json(config, f"configuration {index} of {name!r}")
    bundles = _bundles(resources, name)
    listener = _listener(dict(enumerate(configs)), on_result, on_report)
    started = time.monotonic()
    _fit(
        _trainable(body, tuple(configs)),
        _grid(configs),
        listener,
        bundles,
        name=name,
        storage=storage,
        concurrency=concurrency,
        time_limit_s=time_limit_s,
        scheduler=scheduler,
    )
    return _ended(dict(enumerate(configs)), listener, started, time_limit_s, bundles)


def run_queue(
    body: Body,
    work: Work,
    *,
    name: str,
    storage: Path,
    resources: Sequence[Mapping[str, float]],
    concurrency: int,
    time_limit_s: float,
    on_result: Callable[[TrialOutcome], None] | None = None,
    on_report: Callable[[int, dict[str, Any]], None] | None = None,
    stop: Callable[[int, dict[str, Any]], bool] | None = None,
) -> tuple[TrialOutcome, ...]:
    """Run `body` for configurations that come as earlier ones end, each as a trial of one Ray Tune run.

    Args:
        body: as in `run_trials`.
        work: what is to be run; asked in this process whenever there is room.
        name: as in `run_trials`.
        storage: as in `run_trials`.
        resources: as in `run_trials`.
        concurrency: as in `run_trials`.
        time_limit_s: for the whole run; what is then not finished has failed, what was not begun is left out.
        on_result: as in `run_trials`; what it makes possible may be handed out next.
        on_report: as in `run_trials`.
        stop: called in this process after every report with the index and the metrics; true ends the trial there.

    Returns:
        One outcome for each configuration that was handed out, in that order.

    Raises:
        InputError: the cluster has not the resources of even one trial, or a configuration is not JSON.
    """
    bundles = _bundles(resources, name)
    configs: dict[int, dict[str, Any]] = {}
    listener = _listener(configs, on_result, on_report)
    started = time.monotonic()
    from ray import tune

    from ._queue import searcher_of, stopper_of

    _fit(
        _trainable(body),
        {},
        listener,
        bundles,
        name=name,
        storage=storage,
        concurrency=concurrency,
        time_limit_s=time_limit_s,
        scheduler=None if stop is None else stopper_of(stop, listener),
        searcher=tune.search.ConcurrencyLimiter(searcher_of(work, configs, _check_json), concurrency),
    )
    return _ended(configs, listener, started, time_limit_s, bundles)


def _bundles(resources: Sequence[Mapping[str, float]], name: str) -> list[dict[str, float]]:
    """What one trial reserves; nothing of this cluster yet."""
    bundles = [{kind: float(amount) for kind, amount in bundle.items() if amount} for bundle in resources]
    check_fits(bundles, f"a trial of {name!r}")
    return bundles if any(bundles) else [{"memory": 1.0}]  # Tune refuses an empty reservation; this is one byte


def _grid(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from ray import tune

    return {"index": tune.grid_search(list(range(len(configs))))}


def _fit(
    trainable: Any,
    space: dict[str, Any],
    listener: Any,
    bundles: list[dict[str, float]],
    *,
    name: str,
    storage: Path,
    concurrency: int,
    time_limit_s: float,
    scheduler: Any = None,
    searcher: Any = None,
) -> None:
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from ray import tune

    # They would announce where the files are, that no CSV was found there, and which trials failed.
    for logger in ("ray.tune", "ray.tune.tune", "ray.tune.analysis.experiment_analysis"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    ways: dict[str, Any] = (
        {"max_concurrent_trials": concurrency} if searcher is None else {"search_alg": searcher, "num_samples": -1}
    )
    tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(bundles)),
        param_space=space,
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            time_budget_s=time_limit_s,
            # A process is used again by the next trial. Not under a scheduler: what a stopped body left running in
            # its process would run on beside the next one.
            reuse_actors=scheduler is None,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            **ways,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage.absolute()),
            verbose=0,
            callbacks=[listener],
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    ).fit()


def _trainable(body: Body, configs: tuple[dict[str, Any], ...] = ()) -> Callable[[dict[str, Any]], None]:
    """The Tune function: its place holds the configuration itself, or its index among `configs`."""

    def trial(place: dict[str, Any]) -> None:
        from ray import tune

        latest: dict[str, Any] = {}

        def report(metrics: Mapping[str, Any], done: bool = False) -> None:
            _check_json(metrics, "the metrics")
            latest.update(metrics)
            tune.report(_entries(latest, done))

        try:
            config = json.loads(place["config"]) if "config" in place else configs[place["index"]]
            result = body(config, report)
            report(result or {}, done=True)
        # The one place where a trial's error becomes data; raised again, so that Tune counts it as well.
        except Exception as error:
            tune.report({**_entries(latest, True), _FAILED: one_line(error)})
            raise

    return trial


def _entries(metrics: Mapping[str, Any], done: bool) -> dict[str, Any]:
    """A Tune result: the metrics as JSON, and the numbers among them by name for schedulers."""
    numbers = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and name != "done"  # Tune's word for "stop this trial"
    }
    return {**numbers, _METRICS: json.dumps(metrics), _DONE: done}


def _check_json(value: Any, what: str) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} cannot be written as JSON ({error}): {value!r:.200}") from None


def _trial_name(trial: ray.tune.experiment.Trial) -> str:
    return f"trial-{trial.config['index']:03d}"


def _listener(
    configs: Mapping[int, dict[str, Any]],
    on_result: Callable[[TrialOutcome], None] | None,
    on_report: Callable[[int, dict[str, Any]], None] | None,
) -> Any:
    from ray import tune

    class Listener(tune.Callback):  # type: ignore[misc]  # Ray ships no types
        """Collects what the trials say, in this process."""

        def __init__(self) -> None:
            self.outcomes: dict[int, TrialOutcome] = {}
            self.metrics: dict[int, dict[str, Any]] = {}
            self.reasons: dict[int, str] = {}
            self.started: set[int] = set()
            self.looked = 0.0
            self.own_end: set[int] = set()  # those whose body came to an end, well or badly

        def on_step_end(self, iteration: int, trials: Any, **_: Any) -> None:
            # A trial that was stopped or killed leaves its worker group's reservation to the trials that wait.
            if len(self.outcomes) > len(self.own_end) and time.monotonic() - self.looked > _ORPHANS_EVERY_S:
                release_orphans()
                self.looked = time.monotonic()

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            self.started.add(trial.config["index"])

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            index = trial.config["index"]
            if _METRICS not in result:
                return
            self.metrics[index] = json.loads(result[_METRICS])
            if result[_DONE]:
                self.own_end.add(index)
            if _FAILED in result:
                self.reasons[index] = result[_FAILED]
            if on_report is not None and not result[_DONE]:
                on_report(index, dict(self.metrics[index]))

        @staticmethod
        def read(result: dict[str, Any]) -> tuple[bool, dict[str, Any] | None]:
            """Whether a report is its trial's last, and its metrics; None for a report of Tune's own."""
            return bool(result.get(_DONE)), json.loads(result[_METRICS]) if _METRICS in result else None

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            stopped = not trial.last_result.get(_DONE, False)
            self._end(trial, None, stopped)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            self._end(trial, self.reasons.get(trial.config["index"], "the trial's process died"), False)

        def _end(self, trial: Any, error: str | None, stopped: bool) -> None:
            index = trial.config["index"]
            outcome = TrialOutcome(index, configs[index], self.metrics.get(index, {}), error, stopped)
            self.outcomes[index] = outcome
            if on_result is not None:
                on_result(outcome)

        def __getstate__(self) -> dict[str, Any]:
            # Tune pickles its callbacks for a restore that this package never does.
            return {}

    return Listener()


def _ended(
    configs: Mapping[int, dict[str, Any]],
    listener: Any,
    started: float,
    time_limit_s: float,
    bundles: Sequence[Mapping[str, float]],
) -> tuple[TrialOutcome, ...]:
    """One outcome for each configuration of a Tune run that is over, whether or not it came to its own end."""
    if len(listener.own_end) < len(configs):
        wait_for_orphans(_ORPHANS_S)
    in_time = time.monotonic() - started < time_limit_s
    late = "ended without a result" if in_time else f"not finished within {time_limit_s:g} s"
    return tuple(
        listener.outcomes.get(index) or _unfinished(index, config, listener, late, bundles)
        for index, config in configs.items()
    )


def _unfinished(
    index: int, config: dict[str, Any], listener: Any, late: str, bundles: Sequence[Mapping[str, float]]
) -> TrialOutcome:
    reason = late
    if index not in listener.started:
        import ray

        wanted = " + ".join(f"{amount:g} {kind}" for bundle in bundles for kind, amount in bundle.items())
        free = {kind: round(ray.available_resources().get(kind, 0.0), 3) for b in bundles for kind in b}
        reason = f"{late}: it never started; it waits for {wanted}, free: {cast(Any, free)}"
    return TrialOutcome(index, config, listener.metrics.get(index, {}), reason)
