"""What a trial of a tuned training is measured by: an objective on the search split, or the held-out loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search.run.items import scores_of
from search.scoring.objective import AS_IT_IS, Grader, Job, ScorerFactory
from search.statistics import aggregates


@dataclass(frozen=True)
class Measure:
    """Picklable; `load` makes the function, which holds a model of its own.

    Attributes:
        scorer: of the graders below.
        metric: objective (an aggregate over languages, or the name of an evaluator); "" for the loss.
        onto: checkpoint that adapters are changes of; "" where trials make whole checkpoints.
        shares: of the loss: grader -> share of the mixture.
    """

    scorer: ScorerFactory
    metric: str
    onto: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)

    def load(self) -> Callable[[str], float]:
        """Checkpoint directory -> value."""
        scorer = self.scorer()
        graders = self.scorer.graders

        def measure(checkpoint: str) -> float:
            reference = f"{self.onto}+{checkpoint}" if self.onto else checkpoint
            results = scorer(Job(AS_IT_IS, (reference,), "search")).results
            if not self.metric:
                return self._loss(results)
            scores = scores_of(results, graders, "search")
            return aggregates.objective_scores({self.metric: "max"}, scores)[self.metric].value

        return measure

    def _loss(self, results: Mapping[str, object]) -> float:
        """Nats per token: the mean over an item's tokens, over items, over sources by their shares of the mixture."""
        import numpy as np

        losses = {}
        for name, values in results.items():
            chances = np.asarray(values, dtype=np.float64)
            if not (chances > 0).all():
                raise ValueError(f"a held-out row of {name} has no finite loss")
            losses[name] = float(-np.log(chances).mean())
        total = math.fsum(self.shares.values())
        return math.fsum(self.shares[name] * loss for name, loss in losses.items()) / total


def objective(base: str, graders: tuple[Grader, ...], metric: str, dtype: str, engine: str, onto: str) -> Measure:
    """The measure by an objective; only its own evaluator is loaded."""
    wanted = aggregates.parse(metric).evaluator
    chosen = tuple(grader for grader in graders if grader.name == wanted)
    return Measure(ScorerFactory(base, chosen, dtype, engine), metric, onto)
