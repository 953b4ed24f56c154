"""The cluster of a run, opened when first needed: a resumed run that has nothing to compute starts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from search.run.rundir import Run

from .objective import Grader, ScorerFactory
from .watch import PoolWatch

if TYPE_CHECKING:
    from cluster.pool import RayPool


class Bench:
    """A Ray session and, in it, the pool of evaluator actors; a context manager that leaves neither behind."""

    def __init__(self, run: Run, base: str, graders: Sequence[Grader]) -> None:
        recipe = run.recipe
        self._run, self._recipe = run, recipe
        self._factory = ScorerFactory(base, tuple(graders), recipe.export.dtype, recipe.cluster.evaluators.engine)
        self._stack, self._held = ExitStack(), ExitStack()
        self._is_open = False
        self._pool: RayPool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.release()
        finally:
            self._stack.close()

    def open(self) -> None:
        """Start or join the cluster, unless that is done.

        Raises:
            InputError: it can never hold the evaluators, or the workers of one training.
        """
        from cluster.fits import check_fits
        from cluster.session import session

        if self._is_open:
            return
        spec = self._recipe.cluster
        self._stack.enter_context(session(spec.address))
        if not spec.elastic:
            actor = {"CPU": spec.evaluators.cpus, "GPU": spec.evaluators.gpus}
            check_fits([actor] * spec.evaluators.actors.min, "cluster.evaluators")
            worker = {"CPU": spec.trainers.cpus, "GPU": spec.trainers.gpus}
            check_fits([worker] * spec.trainers.workers, "cluster.trainers")
        self._is_open = True

    def pool(self) -> RayPool:
        """The pool of evaluator actors, started on the first call."""
        from cluster.pool import Limits, open_pool

        self.open()
        if self._pool is None:
            spec = self._recipe.cluster
            actors = spec.evaluators
            factory = self._factory
            if spec.files == "ship":
                from cluster.files import open_files

                factory = replace(factory, files=open_files())
            self._pool = open_pool(
                factory,
                actors=actors.actors.min,
                most=actors.actors.max,
                cpus=actors.cpus,
                gpus=actors.gpus,
                elastic=spec.elastic,
                limits=Limits(start_s=actors.start_timeout, task_s=actors.task_timeout),
            )
            self._held.callback(self._pool.close)
            self._held.enter_context(PoolWatch(self._run, self._pool))
        return self._pool

    def release(self) -> None:
        """Stop the evaluator actors: trainings need what they hold; the next `pool` starts them again."""
        self._pool = None
        self._held.close()
