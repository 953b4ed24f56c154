"""How task vectors become one: plain sum, or sum over the experts that agree with the elected sign.

Both take the deltas one after the other and keep a few running sums, so that memory does not grow with the
experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_SMALLEST_SUM = 1e-8  # mergekit divides by 1 below it


def direct_sum(
    base: Tensor, deltas: Iterable[Tensor], weight: Sequence[float], *, normalize: bool, lambda_: float
) -> Tensor:
    """`base + lambda * sum w_i d_i`, the sum divided by `sum w_i` if `normalize` (unless that is about 0)."""
    mixed = torch.zeros_like(base)
    for delta, share in zip(deltas, weight, strict=True):
        mixed.add_(delta, alpha=share)
    total = sum(weight)
    return _added(base, mixed, total if normalize and abs(total) >= _SMALLEST_SUM else None, lambda_)


def consensus(
    base: Tensor, deltas: Iterable[Tensor], weight: Sequence[float], *, normalize: bool, lambda_: float
) -> Tensor:
    """Sign consensus (TIES, arXiv:2306.01708, in mergekit's convention), entry by entry.

    `v_i = w_i d_i`; the elected sign is that of `sum v_i`, a zero sum counting as plus; the result is
    `base + lambda * sum of the v_i of that sign`, divided by the sum of *their* `w_i` if `normalize` (an
    exact 0 counting as 1). Weights are applied before the election, and a zero entry never agrees. The paper
    elects on unweighted deltas and divides by the number that agree.

    Args:
        base: any shape.
        deltas: one per expert, shaped as `base`; each is owned by this call, and overwritten.
        weight: one per expert.
        normalize: divide by the weights that agree.
        lambda_: scale of the merged task vector.
    """
    vote, plus, minus, mask = (torch.zeros_like(base) for _ in range(4))
    plus_weight, minus_weight = (torch.zeros_like(base), torch.zeros_like(base)) if normalize else (base, base)
    for delta, share in zip(deltas, weight, strict=True):
        delta.mul_(share)
        vote.add_(delta)
        if normalize:
            plus_weight.add_(torch.gt(delta, 0, out=mask), alpha=share)
            minus_weight.add_(torch.lt(delta, 0, out=mask), alpha=share)
        plus.add_(torch.clamp(delta, min=0, out=mask))
        minus.add_(delta.clamp_(max=0))
    elected = vote.ge_(0)
    mixed = _chosen(elected, plus, minus, mask)
    if not normalize:
        return _added(base, mixed, None, lambda_)
    divisor = _chosen(elected, plus_weight, minus_weight, mask)
    return _added(base, mixed, divisor.add_(torch.eq(divisor, 0, out=mask)), lambda_)


def _chosen(elected: Tensor, plus: Tensor, minus: Tensor, scratch: Tensor) -> Tensor:
    """`plus` where `elected` is 1, `minus` where it is 0; overwrites all but `elected`.

    Masks are 0 and 1 in the tensors' own type: on a random mask torch.where takes 3.4 ns per element where a
    product takes 0.14 ns, and arithmetic with bool tensors 0.7 ns (one core of an EPYC).
    """
    torch.sub(1, elected, out=scratch)
    return plus.mul_(elected).add_(minus.mul_(scratch))


def _added(base: Tensor, mixed: Tensor, divisor: Tensor | float | None, lambda_: float) -> Tensor:
    if divisor is not None:
        mixed.div_(divisor)
    if lambda_ != 1:
        mixed.mul_(lambda_)
    return mixed.add_(base)
