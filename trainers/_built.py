"""A training between its parts: what a trainer builds, and what is left when all its steps are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._costs import Costs


class Built(NamedTuple):
    """A training that is ready to start.

    Attributes:
        trainer: of transformers, made by `_tally.counting`.
        groups: pairs (source, language) that its tally counts.
        more_forward: see `_costs.flops`.
    """

    trainer: Any
    groups: tuple[tuple[str, str], ...]
    more_forward: float = 0.0


class Fitted(NamedTuple):
    """A training that took all its steps.

    Attributes:
        built: what was trained.
        costs: the meter, still running.
        resumed_at: step of the checkpoint that this life went on from.
    """

    built: Built
    costs: Costs
    resumed_at: int | None
