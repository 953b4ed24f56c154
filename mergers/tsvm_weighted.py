"""TSVM with ranks by sparsity and weights by outliers: OUR INTERPRETATION of what RESM sets out to do, not RESM.

What is known of RESM (arXiv:2502.06876, merging for helpfulness, honesty and harmlessness): it is task singular vectors
merging plus "outlier-aware weighting", against noise of preference training and heavy tails, and "sparsity-aware rank
selection", layer by layer. Its formulas and its code we have not seen; results obtained here say nothing about RESM.

What we chose, for each tensor by itself:

* outlier: an entry of `|d_i|` above mean + `sigmas` standard deviations of `|d_i|`. An expert's share is the sum of its
  outliers' magnitudes over that of all experts; equal shares where none has any. Random small changes have few.
* sparsity: the part of the entries of all d_i smaller than `negligible` times the root mean square of their d_i, so
  that scaling an expert changes nothing. A tensor of k experts keeps `floor(r / k * (1 - sparsity))` triplets each, and
  at least one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Annotated

import torch
from torch import Tensor

from ._maths.singular import Triplets, joined, leading
from ._types import Count, Numbers, PerExpert, Range, per_expert


def tsvm_weighted(
    base: Tensor,
    experts: Annotated[Sequence[Tensor], Count(2)],
    *,
    weight: Annotated[Numbers, PerExpert(-inf, inf, (0.0, 1.0))] = 1.0,
    sigmas: Annotated[float, Range(0.0, inf)] = 3.0,
    negligible: Annotated[float, Range(0.0, inf)] = 0.01,
    lambda_: Annotated[float, Range(-inf, inf)] = 1.0,
) -> Tensor:
    """RESM-like, our interpretation: as `tsvm`, with differences `w_i k a_i d_i` and ranks by sparsity.

    a_i is expert i's share of the outliers (the shares sum to 1) and k the number of experts. Tensors that are not
    matrices become `b + lambda * sum w_i a_i d_i`. The module's text says what is known and what we chose.

    Args:
        base: the tensor that every expert started from.
        experts: at least two tensors shaped as `base`.
        weight: of each expert, on top of its share; may be negative.
        sigmas: standard deviations beyond the mean magnitude from which an entry is an outlier.
        negligible: part of the root mean square below which an entry counts as not changed.
        lambda_: scale of the merged difference.
    """
    if base.numel() == 0:
        return base.clone()
    deltas = [(expert - base).double() for expert in experts]
    shares = _outlier_shares(deltas, sigmas)
    scales = [w * share for w, share in zip(per_expert(weight, len(experts)), shares, strict=True)]
    if base.dim() == 2:
        rank = _rank(deltas, negligible)
        # An expert that counts for nothing has no vectors either: it would still turn those of the others.
        pairs = [(leading(delta, rank if scale else 0), scale) for delta, scale in zip(deltas, scales, strict=True)]
        merged = joined([Triplets(t.left, t.values * (scale * len(deltas)), t.right) for t, scale in pairs])
    else:
        merged = torch.zeros_like(deltas[0])
        for delta, scale in zip(deltas, scales, strict=True):
            merged.add_(delta * scale)
    return base + merged.mul_(lambda_).to(base.dtype)


def _outlier_shares(deltas: Sequence[Tensor], sigmas: float) -> list[float]:
    masses = []
    for delta in deltas:
        magnitude = delta.abs()
        bound = magnitude.mean() + sigmas * magnitude.std(correction=0)
        masses.append(float(magnitude[magnitude > bound].sum()))
    total = sum(masses)
    return [mass / total if total > 0 else 1.0 / len(masses) for mass in masses]


def _rank(deltas: Sequence[Tensor], negligible: float) -> int:
    small = [(delta.abs() < negligible * delta.square().mean().sqrt()).double().mean() for delta in deltas]
    sparsity = float(torch.stack(small).mean())
    return max(1, int(min(deltas[0].shape) / len(deltas) * (1.0 - sparsity)))
