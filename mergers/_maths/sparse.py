"""Plans of the task-vector methods: which entries of each expert count, by how much, and how they are combined.

The same merges as `_deltas` and `_combine` compute on whole tensors, as data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from .._plan import Band, Blocks, Everything, Mask, Nothing, Random, Ranked, Sparse
from .._rules import band_counts, coefficients, keep_probabilities, rescaling, trim_count
from .deltas import Thinned, sample
from .draw import Draw, threshold

if TYPE_CHECKING:
    from .._execution.statistics import Statistics

Kept = tuple[Mask, float]
"""Which entries of an expert's difference count, and what they are multiplied by (see `deltas.Thinned`)."""


def everything(experts: int) -> list[Kept]:
    """Differences as they are."""
    return [(Everything(), 1.0)] * experts


def trimmed(tensor: Statistics, density: Sequence[float], *, rescale: bool) -> list[Kept]:
    """See `deltas.trim`."""
    counts = [trim_count(share, tensor.size) for share in density]
    return tensor.each(lambda i: _rescaled(tensor, i, _band(tensor, i, 0, counts[i]), rescale))


def banded(tensor: Statistics, density: Sequence[float], gamma: Sequence[float], *, rescale: bool) -> list[Kept]:
    """See `deltas.cut`."""
    counts = [band_counts(share, outliers, tensor.size) for share, outliers in zip(density, gamma, strict=True)]
    return tensor.each(lambda i: _rescaled(tensor, i, _band(tensor, i, *counts[i]), rescale))


def dropped(tensor: Statistics, density: Sequence[float], draw: Draw, *, rescale: bool, paper: bool) -> list[Kept]:
    """See `deltas.drop`."""

    def one(i: int) -> Kept:
        mask = _whole(density[i]) or Random(draw.seed, draw.name, i, threshold(density[i]))
        if paper:
            return mask, 1.0 / density[i] if rescale and isinstance(mask, Random) else 1.0
        return _rescaled(tensor, i, mask, rescale)

    return tensor.each(one)


def sampled(
    tensor: Statistics, density: Sequence[float], epsilon: Sequence[float], draw: Draw, *, rescale: bool
) -> list[Kept]:
    """See `deltas.sample`, mergekit's convention; for tensors of up to two dimensions."""

    def one(i: int) -> Kept:
        share = density[i]
        mask = _whole(share) or Ranked(draw.seed, draw.name, i, *keep_probabilities(share, epsilon[i]))
        return _rescaled(tensor, i, mask, rescale)

    return tensor.each(one)


def sampled_blocks(
    combine: Callable[[Tensor, Iterator[Thinned]], Tensor],
    density: Sequence[float],
    epsilon: Sequence[float],
    draw: Draw,
    *,
    rescale: bool,
) -> Blocks:
    """See `deltas.sample`, the paper's convention: rows depend on nothing but themselves.

    Args:
        combine: base and differences to the merge.
        density: per expert.
        epsilon: per expert.
        draw: random numbers of this tensor.
        rescale: divide survivors by their probability.
    """

    def apply(base: Tensor | None, experts: Sequence[Tensor], start: int) -> Tensor:
        assert base is not None, "a task vector needs a base"
        numbers = zip(experts, density, epsilon, strict=True)
        return combine(
            base,
            (
                sample(expert - base, share, spread, draw, i, rescale=rescale, paper=True, start=start)
                for i, (expert, share, spread) in enumerate(numbers)
            ),
        )

    return Blocks(apply, whole_rows=True)


def direct(kept: Sequence[Kept], weight: Sequence[float], *, normalize: bool, lambda_: float) -> Sparse:
    """See `combine.direct_sum`."""
    masks, scales = zip(*kept, strict=True)
    shares = coefficients(weight, normalize=normalize, lambda_=lambda_)
    return Sparse(masks, scales, shares, consensus=False)


def elected(kept: Sequence[Kept], weight: Sequence[float], *, normalize: bool, lambda_: float, paper: bool) -> Sparse:
    """See `combine.consensus`."""
    masks, scales = zip(*kept, strict=True)
    return Sparse(
        masks,
        scales,
        tuple(weight),
        consensus=True,
        weighted_election=not paper,
        divide="no" if not normalize else "count" if paper else "weights",
        lambda_=lambda_,
    )


def _whole(density: float) -> Mask | None:
    return Everything() if density >= 1 else Nothing() if density <= 0 else None


def _band(tensor: Statistics, expert: int, above: int, upto: int) -> Mask:
    if upto <= above:
        return Nothing()
    if above == 0 and upto >= tensor.size:
        return Everything()
    return Band(*tensor.ranks(expert, (above, upto)))


def _rescaled(tensor: Statistics, expert: int, mask: Mask, rescale: bool) -> Kept:
    if not rescale or isinstance(mask, (Everything, Nothing)):
        return mask, 1.0
    return mask, rescaling(*tensor.l1(expert, mask))
