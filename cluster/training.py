"""A group of Ray Train workers around one function, for use inside a Ray Tune trial.

Ray Train V2 has no road from Tune to its workers' processes, so the trial holds the trainer: the trial's process
waits and watches the workers. It does not need torch, and loading it there would cost each training 3 s of CPU and
380 MB; so ``_group`` brings its own rendezvous in place of ``TorchTrainer``'s, and the workers form their process group
themselves from the variables that torchrun would set.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ._channel import Inbox, Sender
from ._errors import WorkersFailed, one_line
from ._group import Rendezvous, Trainer
from ._leftovers import release_own
from .fits import check_fits
from .trials import Report

Loop = Callable[[dict[str, Any], Report], None]
"""What every worker does with its configuration; what the first worker reports is passed on."""

# Read by Ray Train in the processes that it starts; they inherit what is set where the trainer is made.
_TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it prints bytecode
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # the default of 2 s is waited for at the end of every run
    # One process less for each run: a worker that a preempted node takes along is retried as any other.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",  # it would take over the trial's log
}
_PASSED_ON = (
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HOME",
    "HF_DATASETS_CACHE",
    "HF_HUB_CACHE",
    "TENSORBOARD_LOGGING_DIR",
)
# Where trackers report to. Their keys are not passed on: Ray shows what it passes on to whoever sees its dashboard.
_TRACKERS = ("WANDB_", "MLFLOW_", "HF_MLFLOW_")
_SECRET = ("KEY", "TOKEN", "PASSWORD", "SECRET")
# What a worker says when another one is gone: its own error then is not the reason.
_LOST_PEER = ("Connection closed", "Connection reset", "Connection refused", "Broken pipe", "gloo", "NCCL")
_POLL_S = 0.1
_IMPORT_LIMIT_S = 120


def run_workers(
    loop: Loop,
    config: dict[str, Any],
    *,
    name: str,
    storage: Path,
    workers: int,
    cpus: float,
    gpus: float = 0,
    report: Report | None = None,
    start_timeout_s: float = 180,
    restarts: int = 2,
    elastic: bool = False,
) -> None:
    """Run `loop` in `workers` Ray Train workers and wait for the end.

    The workers find RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in their environment, as under
    torchrun, and OMP_NUM_THREADS according to `cpus`. They form no process group unless `loop` does.

    Args:
        loop: imported in the workers by name; gets `config` and a report function.
        config: handed to every worker.
        name: of the run; Ray's files lie in `storage`/`name`.
        storage: directory that all nodes share.
        workers: how many.
        cpus: of each worker.
        gpus: of each worker.
        report: receives the metrics of the first worker; runs in this thread.
        start_timeout_s: until all workers run `loop`.
        restarts: how often the group is started again when a worker's process dies. An exception in `loop` is never
            retried: the same input gives the same error.
        elastic: the cluster adds nodes on demand, so that what it lacks now is waited for, up to `start_timeout_s`.

    Raises:
        InputError: the cluster can never hold these workers.
        WorkersFailed: a worker raised (its error is named), or died once more than `restarts` allows, or the workers
            did not start in time (the missing resource is named).
    """
    bundle = {kind: amount for kind, amount in (("CPU", float(cpus)), ("GPU", float(gpus))) if amount}
    if not elastic:
        check_fits([bundle] * workers, f"a group of {workers} workers")
    os.environ.update({**_TRAIN_ENVIRONMENT, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(start_timeout_s)})
    left = restarts
    while (failure := _attempt(loop, config, name, storage, workers, bundle, report, start_timeout_s)) is not None:
        reason, lost = _explain(failure, workers, bundle, start_timeout_s)
        if not lost:
            raise WorkersFailed(reason) from failure
        if left == 0:
            raise WorkersFailed(f"{reason} ({restarts + 1} attempts)") from failure
        left -= 1


def _attempt(
    loop: Loop,
    config: dict[str, Any],
    name: str,
    storage: Path,
    workers: int,
    bundle: Mapping[str, float],
    report: Report | None,
    start_timeout_s: float,
) -> BaseException | None:
    """One life of the group; returns what ended it early, or None."""
    import ray
    import ray.train

    with Inbox(ray.util.get_node_ip_address()) as inbox:
        trainer = Trainer(
            _worker,
            train_loop_config={"loop": loop, "config": config, "report_to": inbox.address},
            backend_config=Rendezvous(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, use_gpu=bundle.get("GPU", 0) > 0, resources_per_worker=dict(bundle)
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=str(storage.absolute()),
                # Lives are counted here, where an error of the loop can be told from a worker's death.
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
                worker_runtime_env={"env_vars": _environment(bundle, storage)},
            ),
        )
        ended: list[BaseException | None] = []

        def fit() -> None:
            try:
                trainer.fit()
                ended.append(None)
            # Handed to the waiting thread as data, which alone knows what each kind means.
            except Exception as error:
                ended.append(error)

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        # Beyond the group's own limit, which covers the reservation, processes have to start and import.
        deadline = time.monotonic() + start_timeout_s + _IMPORT_LIMIT_S
        try:
            while thread.is_alive():
                _pass_on(inbox, report, _POLL_S)
                if inbox.senders < workers and time.monotonic() > deadline and thread.is_alive():
                    return TimeoutError(
                        f"{inbox.senders} of {workers} workers started within {start_timeout_s + _IMPORT_LIMIT_S:g} s"
                    )
            _pass_on(inbox, report, 0)
        finally:
            release_own()  # of a group that failed while starting; one that never started fails by it
    return ended[0]


def _pass_on(inbox: Inbox, report: Report | None, timeout_s: float) -> None:
    for metrics in inbox.receive(timeout_s):
        if report is not None:
            report(metrics)


def _worker(work: dict[str, Any]) -> None:
    sender = Sender(work["report_to"])
    first = os.environ["RANK"] == "0"

    def report(metrics: Mapping[str, Any]) -> None:
        if first:
            sender.send(metrics)

    work["loop"](work["config"], report)


def _explain(
    error: BaseException, workers: int, bundle: Mapping[str, float], start_timeout_s: float
) -> tuple[str, bool]:
    """One line on why a group ended, and whether it was a death (which another life may survive)."""
    import ray
    from ray.train import WorkerGroupError

    if isinstance(error, WorkerGroupError):
        own = {}
        for rank, failure in sorted(error.worker_failures.items()):
            cause = getattr(failure, "_base_exc", failure)
            died = _is_death(cause)
            if not died and not any(sign in str(cause) for sign in _LOST_PEER):
                return (one_line(cause) if workers == 1 else f"worker {rank}: {one_line(cause)}"), False
            own[rank] = "its process died" if died else one_line(cause)
        return "; ".join(f"worker {rank} of {workers}: {reason}" for rank, reason in own.items()), True
    cause = getattr(error, "controller_failure", error)
    if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
        free = ray.available_resources()
        lacking = [
            f"{amount * workers:g} {kind} ({free.get(kind, 0.0):g} free)"
            for kind, amount in bundle.items()
            if free.get(kind, 0.0) < amount * workers
        ]
        return (
            f"{workers} workers did not start within {start_timeout_s:g} s: they wait for "
            f"{' and '.join(lacking) or 'a node with ' + str(dict(bundle))}",
            False,
        )
    if _is_death(cause):
        which = "worker 0" if workers == 1 else "a worker"
        return f"{which} of {workers}: its process died", True  # before the loop ran in all of them
    return one_line(cause), False


def _is_death(error: BaseException) -> bool:
    """Whether a worker's process is gone: Ray says so itself, or through Train, whose classes for it are not public."""
    import ray

    lost = ("WorkerHealthCheckFailedError", "WorkerHealthCheckTimeoutError", "WorkerGroupStartupFailedError")
    return isinstance(error, ray.exceptions.RayActorError) or type(error).__name__ in lost


def _environment(bundle: Mapping[str, float], storage: Path) -> dict[str, str]:
    variables = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or (name.startswith(_TRACKERS) and not name.endswith(_SECRET))
    }
    variables["HF_HUB_DISABLE_TELEMETRY"] = "1"
    variables["TOKENIZERS_PARALLELISM"] = "false"
    variables["OMP_NUM_THREADS"] = str(max(1, int(bundle.get("CPU", 1))))
    # The default, ~/.cache/torch_extensions, is shared by all environments of a user, and a lock left there hangs all.
    variables["TORCH_EXTENSIONS_DIR"] = str(storage.absolute() / "torch_extensions")
    if not bundle.get("GPU"):
        variables["DS_ACCELERATOR"] = "cpu"
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables
