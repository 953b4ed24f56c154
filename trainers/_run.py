"""The road that every training takes: checks, worker group, steps, record, result."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._built import Built, Fitted
from ._check import check_placement, check_spec
from ._checkpoint import is_complete, last_complete
from ._errors import TrainingError
from ._schema import Report
from ._types import Placement, TrainSpec
from ._zero import zero_config

if TYPE_CHECKING:
    from ._costs import Costs
    from ._workplace import Workplace


def run(
    name: str,
    spec: TrainSpec,
    placement: Placement,
    build: Callable[[Workplace], Built],
    *,
    out: str,
    work: str,
    report: Report,
    threads: int | None,
) -> None:
    """Train what `build` makes and leave a checkpoint, or an adapter, in `out`; the body of every worker.

    Args:
        name: of the trainer.
        spec: what to train, with complete options.
        placement: how it is laid out.
        build: makes the trainer of this worker.
        out: see ``trainers.sft``.
        work: see ``trainers.sft``.
        report: see ``trainers.sft``.
        threads: see ``trainers.sft``.

    Raises:
        InputError: the spec, the layout, the data or `out` cannot be used.
        TrainingError: the loss is no longer finite, or the disk is full.
    """
    with started(spec, placement, out, work, threads) as at:
        if at is None:
            return
        from ._record import record
        from ._save import save

        fitted = fit(at, build, report)
        trainer = fitted.built.trainer
        made = record(name, spec, placement, fitted, at.workers)
        save(at, spec.base, trainer, trainer.processing_class, Path(out), made)


@contextmanager
def started(
    spec: TrainSpec, placement: Placement, out: str, work: str, threads: int | None
) -> Iterator[Workplace | None]:
    """Check everything that can be checked, join the workers, and clean up; None where `out` is complete."""
    check_spec(spec)
    check_placement(placement, spec.batch)
    zero_config(placement, spec, int(os.environ.get("WORLD_SIZE", "1")))
    if is_complete(Path(out)):
        yield None
        return
    with uncollected(), full_disk_named(Path(out), Path(work)):
        import torch

        if not torch.cuda.is_available():
            torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", "1")))
        from ._deepspeed import process_group

        with process_group() as (rank, workers):
            from ._workplace import Workplace, check_length, quiet, unfolded

            check_placement(placement, spec.batch, workers)
            with quiet():
                whole = unfolded(spec, Path(work), rank)
                check_length(whole)
                yield Workplace(whole, placement, Path(work), rank, workers)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection, until `fit` takes its first step or the block ends.

    What the libraries make while they are imported is kept, and looking for garbage in it was a fifth of the time that
    they take (5.5 s of 1 core with it, 4.4 s without).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def fit(
    at: Workplace,
    build: Callable[[Workplace], Built],
    report: Report,
    *,
    before: int = 0,
    after: int = 0,
    costs: Costs | None = None,
) -> Fitted:
    """Take all the steps, from the newest checkpoint on if there is one.

    Args:
        at: this worker.
        build: makes the trainer.
        report: called after every step.
        before: steps of an earlier phase of the same training.
        after: steps of later phases.
        costs: the meter of an earlier phase.
    """
    import torch
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    from ._costs import Costs
    from ._hooks import Progress
    from ._tally import TALLY

    resumed = last_complete(at.work, at.spec, at.placement, at.workers)
    facts = resumed[1] if resumed else {}
    costs = costs or Costs()
    if resumed:
        costs.before = facts["costs"]
    built = build(at)
    trainer = built.trainer
    for console in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(console)
    progress = Progress(at, report, costs, before, after)
    progress.trainer = trainer
    trainer.add_callback(progress)
    trainer.counted = torch.zeros(len(built.groups), len(TALLY), dtype=torch.int64)
    if resumed and at.rank == 0:
        trainer.counted += torch.tensor(facts["counted"])
    if resumed and hasattr(trainer, "restore"):
        trainer.restore(facts)
    gc.enable()
    trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    return Fitted(built, costs, facts.get("step"))


@contextmanager
def full_disk_named(out: Path, work: Path) -> Iterator[None]:
    """Turn what the libraries raise when nothing more can be written into one line.

    Raises:
        TrainingError: no space, a quota, or a limit on the size of files.
    """
    signs = ("No space left", "os error 28", "File too large", "os error 27", "quota exceeded", "PytorchStreamWriter")
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if any(sign in str(cause) for sign in signs):
                first = (str(cause).strip() or type(cause).__name__).splitlines()[0]
                raise TrainingError(
                    f"a checkpoint cannot be written ({first}); make room under {work} and {out.parent}, "
                    "then run it again: it goes on from the last complete checkpoint"
                ) from error
            cause = cause.__cause__ or cause.__context__
        raise


def with_options(spec: TrainSpec, **options: Any) -> TrainSpec:
    """The spec with the options that the trainer was called with, defaults included."""
    return replace(spec, options=tuple(options.items()))
