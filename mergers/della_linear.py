"""DELLA without election (arXiv:2406.11617): drop by magnitude rank at random, rescale, add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, Annotated

from torch import Tensor

from ._maths.combine import direct_sum
from ._maths.deltas import Thinned, sample
from ._maths.draw import Draw
from ._maths.sparse import direct, sampled, sampled_blocks
from ._plan import Blocks, Sparse
from ._types import Choice, DividesBySum, Numbers, PerExpert, Range, per_expert

if TYPE_CHECKING:
    from ._execution.statistics import Statistics


def della_linear(
    base: Tensor,
    experts: Sequence[Tensor],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.2))],
    density: Annotated[Numbers, PerExpert(0.0, 1.0, (12 / 64, 52 / 64), 1 / 64)] = 1.0,
    epsilon: Annotated[Numbers, PerExpert(0.0, 1.0)] = 0.15,
    normalize: Annotated[bool, DividesBySum("weight")] = False,
    rescale: bool = True,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
    convention: Annotated[str, Choice(("mergekit", "paper"))] = "mergekit",
    draw: Draw,
) -> Tensor:
    """`b + lambda * sum w_i s_i`, with s_i the difference `x_i - b` thinned at random by rank.

    An entry is kept with a probability that rises linearly with its rank by magnitude in its row, from
    `density - epsilon` to `density + epsilon`. A 1-D tensor is one row; a row of one entry uses `density`. In tensors
    of more than two dimensions ranks run along dimension 1, as in mergekit.

    The masks belong to (seed, tensor name, expert's position): changing the order of the experts changes
    them.

    Args:
        base: the tensor that every expert started from.
        experts: tensors shaped as `base`.
        weight: of each expert's difference; may be negative.
        density: mean probability that an entry is kept; exactly 1 keeps everything, exactly 0 nothing.
        epsilon: how far the probability departs from the density at either end of a row. The paper's epsilon is the
            whole width, twice this.
        normalize: divide by the sum of the weights, unless that is about 0.
        rescale: bring what is kept back to the L1 norm before dropping (mergekit), which in expectation enlarges a
            row's large entries and shrinks its small ones, or divide each survivor by its own probability (paper),
            which changes no expectation.
        lambda_: scale of the whole sum.
        convention: how `rescale` is done. The paper has no variant without election.
        draw: random numbers of this tensor.

    Raises:
        InputError: density - epsilon or density + epsilon is not between 0 and 1, for a density other than 0 and 1.
    """
    paper = convention == "paper"
    shares, kept, spread = (per_expert(value, len(experts)) for value in (weight, density, epsilon))
    deltas = (
        sample(tensor - base, mean, width, draw, index, rescale=rescale, paper=paper)
        for index, (tensor, mean, width) in enumerate(zip(experts, kept, spread, strict=True))
    )
    return direct_sum(base, deltas, shares, normalize=normalize, lambda_=lambda_)


def plan(
    tensor: Statistics,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    epsilon: Sequence[float],
    normalize: bool,
    rescale: bool,
    lambda_: float,
    convention: str,
    draw: Draw,
) -> Sparse | Blocks | None:
    """The same as masks by rank in a row, or (paper) row by row; no plan for more than two dimensions."""
    if len(tensor.shape) > 2:
        return None
    if convention == "paper":

        def combine(base: Tensor, deltas: Iterator[Thinned]) -> Tensor:
            return direct_sum(base, deltas, weight, normalize=normalize, lambda_=lambda_)

        return sampled_blocks(combine, density, epsilon, draw, rescale=rescale)
    kept = sampled(tensor, density, epsilon, draw, rescale=rescale)
    return direct(kept, weight, normalize=normalize, lambda_=lambda_)
