"""DARE with sign consensus (arXiv:2311.03099): drop at random, rescale, merge those who agree."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.combine import consensus
from ._maths.deltas import drop
from ._maths.draw import Draw
from ._maths.sparse import dropped, elected
from ._plan import Sparse
from ._types import Choice, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def dare_ties(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (6 / 64, 1.0), 1 / 64)] = 1.0,
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
    convention: Annotated[str, Choice(("mergekit", "paper"))] = "mergekit",
    draw: Draw,
) -> Tensor:
    """Merge randomly thinned differences `x_i - b`, by sign consensus.

    The masks belong to (seed, tensor name, expert's position): changing the order of the experts changes
    them.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert, in the sum and (mergekit) in the election; may be negative.
        density: probability that an entry is kept.
        normalize: divide, entry by entry, by the weights that agree (mergekit) or by their number (paper).
        rescale: bring what is kept back to the L1 norm before dropping (mergekit), or divide it by the density (paper).
        lambda_: scale of the merged difference.
        convention: `mergekit` elects on weighted differences, `paper` on the rescaled differences themselves. The
            paper's merge is `paper` with `normalize` on, as it follows DARE with TIES.
        draw: random numbers of this tensor.
    """
    paper = convention == "paper"
    kept = per_expert(density, len(experts))
    deltas = (
        drop(tensor - base, share, draw, index, rescale=rescale, paper=paper)
        for index, (tensor, share) in enumerate(zip(experts, kept, strict=True))
    )
    shares = per_expert(weight, len(experts))
    return consensus(base, deltas, shares, normalize=normalize, lambda_=lambda_, paper=paper)


def plan(
    tensor: Statistics,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool,
    rescale: bool,
    lambda_: float,
    convention: str,
    draw: Draw,
) -> Sparse:
    """The same as random masks with known norms."""
    paper = convention == "paper"
    kept = dropped(tensor, density, draw, rescale=rescale, paper=paper)
    return elected(kept, weight, normalize=normalize, lambda_=lambda_, paper=paper)
