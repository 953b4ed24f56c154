"""What an evaluator actor does: merge into the live model, score it, answer with per-item results.

The actor holds one live model and the opened experts; a candidate overwrites the model's weights in place, so nothing
is written to disk and nothing is loaded again between candidates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evaluators._types import Item
from mergers._spec import Merge

if TYPE_CHECKING:
    import numpy as np

    from cluster.files import Files
    from evaluators._engine import Engine
    from evaluators._types import Evaluator
    from mergers._execution.materialize import Materializer

Results = Mapping[str, "np.ndarray[Any, Any]"]
"""Evaluator name -> one float32 in [0, 1] for each item of the job, in the order of that evaluator's items."""


@dataclass(frozen=True)
class Answer:
    """What scoring a job gave: its results, and the tokens that went through the model for them."""

    results: Results
    tokens: int = 0


@dataclass(frozen=True)
class Grader:
    """One evaluator of the recipe with its items (both splits)."""

    name: str
    kind: str
    options: tuple[tuple[str, Any], ...]
    items: tuple[Item, ...]

    def split(self, split: str) -> tuple[Item, ...]:
        """The items of `search` or `report`, in the order in which stages go through them (`racing.ordering`)."""
        return tuple(item for item in self.items if item.split == split)


@dataclass(frozen=True)
class Job:
    """One thing to score: `merge` over `experts` (checkpoint paths, in merge order), on one split.

    `ranges` are (evaluator, first, stop) of the items to score, counted in the order of `Grader.split`; evaluators that
    are not named are left out. Empty: every evaluator, all items.
    """

    merge: Merge
    experts: tuple[str, ...]
    split: str
    ranges: tuple[tuple[str, int, int], ...] = ()


EXPERT_SETS = 8
"""Expert sets that an actor keeps open: a run searches a few, and scores each model alone once."""

AS_IT_IS = Merge("linear", (("weight", (1.0,)),))
"""The merge of one expert alone: how the base, an expert or a baseline is scored and exported."""


@dataclass(frozen=True)
class ScorerFactory:
    """Builds the actor's callable; frozen and picklable, all heavy work happens in the actor.

    Attributes:
        base: checkpoint directory of the base.
        graders: evaluators with their items.
        dtype: the type in which exports are written; the live model computes in it, so that an exported checkpoint
            scores what its candidate scored.
        engine: name of the engine.
        files: how a node comes to checkpoints that it does not see; None: it sees them all.
    """

    base: str
    graders: tuple[Grader, ...]
    dtype: str
    engine: str = "transformers"
    files: Files | None = None

    def __call__(self) -> Scorer:
        """Build the callable (in the actor's process)."""
        import mergefront  # noqa: F401  # its guard: a worker may see other packages than the driver

        files = self.files
        return Scorer(self if files is None else replace(self, base=files.local(self.base)))


class Scorer:
    """Job -> per-item results and tokens; raises what the merge or an evaluator raises."""

    def __init__(self, spec: ScorerFactory) -> None:
        from evaluators._engines import load_engine
        from evaluators._schema import build

        self._base, self._files = spec.base, spec.files
        self._materializers: OrderedDict[tuple[str, ...], Materializer] = OrderedDict()
        self._engine = load_engine(spec.engine, spec.base, dtype=spec.dtype)
        self._weights = self._engine.weights()
        self._graders = tuple(
            (
                grader.name,
                _with_base(build(grader.kind, dict(grader.options)), self._engine, grader, spec),
                grader.split("search"),
                grader.split("report"),
            )
            for grader in spec.graders
        )

    def __call__(self, job: Job) -> Answer:
        """Merge in place, then score on every evaluator that the job asks for."""
        import numpy as np

        before = self._engine.tokens
        self._materializer(job.experts).apply(job.merge)
        self._engine.written()
        ranges = {name: slice(first, stop) for name, first, stop in job.ranges}
        results = {}
        for name, evaluator, search, report in self._graders:
            if job.ranges and name not in ranges:
                continue
            items = (search if job.split == "search" else report)[ranges.get(name, slice(None))]
            scores = evaluator.score(self._engine, items) if items else ()
            results[name] = np.asarray(scores, dtype=np.float32)
        return Answer(results, self._engine.tokens - before)

    def _materializer(self, experts: tuple[str, ...]) -> Materializer:
        """Opened experts and what is known about them; the expert sets used last stay."""
        from mergers._merge import Materializer, Sources

        if experts not in self._materializers:
            files = self._files
            paths = experts if files is None else tuple(files.local(path) for path in experts)
            self._materializers[experts] = Materializer(Sources(self._base, paths), self._weights)
        self._materializers.move_to_end(experts)
        while len(self._materializers) > EXPERT_SETS:
            self._materializers.popitem(last=False)
        return self._materializers[experts]


def _with_base(evaluator: Evaluator, engine: Engine, grader: Grader, spec: ScorerFactory) -> Evaluator:
    """The evaluator, told of the base what it compares with; the live model holds the base until the first merge."""
    from evaluators.judges.base import Relative, weights_identity

    if not isinstance(evaluator, Relative):
        return evaluator
    return evaluator.with_base(engine, grader.items, weights_identity(spec.base, spec.dtype, spec.engine))
