"""DARE (arXiv:2311.03099): drop entries of the task vectors at random, rescale the rest, add them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.combine import direct_sum
from ._maths.deltas import drop
from ._maths.draw import Draw
from ._maths.sparse import direct, dropped
from ._plan import Sparse
from ._types import Choice, DividesBySum, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def dare_linear(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.2))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (6 / 64, 1.0), 1 / 64)] = 1.0,
    normalize: Annotated[bool, DividesBySum("weight")] = False,
    rescale: bool = True,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
    convention: Annotated[str, Choice(("mergekit", "paper"))] = "mergekit",
    draw: Draw,
) -> Tensor:
    """`b + lambda * sum w_i s_i`, with s_i the randomly thinned difference `x_i - b`.

    The masks belong to (seed, tensor name, expert's position): changing the order of the experts changes
    them.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert's difference; may be negative.
        density: probability that an entry is kept.
        normalize: divide by the sum of the weights, unless that is about 0.
        rescale: bring what is kept back to the L1 norm before dropping (mergekit), or divide it by the density (paper).
        lambda_: scale of the whole sum.
        convention: how `rescale` is done. Dividing by the density keeps the expected difference of every entry;
            matching the norm comes close to that, and holds the norm exactly.
        draw: random numbers of this tensor.
    """
    kept = per_expert(density, len(experts))
    deltas = (
        drop(tensor - base, share, draw, index, rescale=rescale, paper=convention == "paper")
        for index, (tensor, share) in enumerate(zip(experts, kept, strict=True))
    )
    return direct_sum(base, deltas, per_expert(weight, len(experts)), normalize=normalize, lambda_=lambda_)


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
    kept = dropped(tensor, density, draw, rescale=rescale, paper=convention == "paper")
    return direct(kept, weight, normalize=normalize, lambda_=lambda_)
