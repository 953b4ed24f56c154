"""How task vectors become one: plain sum, or sum over the experts that agree with the elected sign.

Both take the differences one after the other and keep a few running sums, so that memory does not grow with the
experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .._rules import coefficients
from .deltas import Thinned


def direct_sum(
    base: Tensor, deltas: Iterable[Thinned], weight: Sequence[float], *, normalize: bool, lambda_: float
) -> Tensor:
    """`base + lambda * sum w_i d_i`, the sum divided by `sum w_i` if `normalize` (unless that is about 0)."""
    mixed = torch.zeros_like(base)
    shares = coefficients(weight, normalize=normalize, lambda_=lambda_)
    for (delta, scale), share in zip(deltas, shares, strict=True):
        mixed.add_(delta, alpha=share * scale)
    return mixed.add_(base)


def consensus(
    base: Tensor, deltas: Iterable[Thinned], weight: Sequence[float], *, normalize: bool, lambda_: float, paper: bool
) -> Tensor:
    """Sign consensus (TIES, arXiv:2306.01708), entry by entry.

    mergekit's: `v_i = w_i d_i`; the elected sign is that of `sum v_i`, a zero sum counting as plus; the result is
    `base + lambda * sum of the v_i of that sign`, divided by the sum of *their* `w_i` if `normalize` (an exact 0
    counting as 1). A zero entry never agrees.

    The paper's: the election is that of `sum d_i`, an expert agrees if its d_i has the elected sign, and `normalize`
    divides by the number that agree.

    Args:
        base: any shape.
        deltas: one per expert, shaped as `base`; each is owned by this call, and overwritten.
        weight: one per expert.
        normalize: divide, entry by entry.
        lambda_: scale of the merged task vector.
        paper: elect on unweighted differences and divide by a count.
    """
    vote, plus, minus, mask = (torch.zeros_like(base) for _ in range(4))
    plus_shares, minus_shares = (torch.zeros_like(base), torch.zeros_like(base)) if normalize else (mask, mask)
    for (delta, scale), share in zip(deltas, weight, strict=True):
        value = share * scale
        if paper:
            vote.add_(delta, alpha=scale)
        else:
            vote.add_(delta.mul_(value))
        if normalize:
            plus_shares.add_(torch.gt(delta, 0, out=mask), alpha=1.0 if paper else share)
            minus_shares.add_(torch.lt(delta, 0, out=mask), alpha=1.0 if paper else share)
        plus.add_(torch.clamp(delta, min=0, out=mask), alpha=value if paper else 1.0)
        minus.add_(delta.clamp_(max=0), alpha=value if paper else 1.0)
    elected = vote.ge_(0)
    mixed = _chosen(elected, plus, minus, mask)
    if normalize:
        divisor = _chosen(elected, plus_shares, minus_shares, mask)
        mixed.div_(divisor.add_(torch.eq(divisor, 0, out=mask)))
    return mixed.mul_(lambda_).add_(base)


def _chosen(elected: Tensor, plus: Tensor, minus: Tensor, scratch: Tensor) -> Tensor:
    """`plus` where `elected` is 1, `minus` where it is 0; overwrites all but `elected`.

    Masks are 0 and 1 in the tensors' own type: on a random mask torch.where takes 3.4 ns per element where a
    product takes 0.14 ns, and arithmetic with bool tensors 0.7 ns (one core of an EPYC).
    """
    torch.sub(1, elected, out=scratch)
    return plus.mul_(elected).add_(minus.mul_(scratch))
