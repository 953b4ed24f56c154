"""Who moved which entry: the sums of Reinforced Agent Merging (arXiv:2601.13572), in mergekit's definition.

An expert touches an entry if `|x - b| > epsilon` there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def overlap(base: Tensor, experts: Sequence[Tensor], start: int, *, epsilon: float, scales: Sequence[float]) -> Tensor:
    """`b + s_i d_i` where expert i alone touches, `b +` the mean of those that touch elsewhere, `b` where none does.

    Args:
        base: any stretch of the tensor.
        experts: shaped as `base`.
        start: its position; without effect.
        epsilon: a difference up to this is none.
        scales: one s_i per expert.
    """
    total, alone, touching = torch.zeros_like(base), torch.zeros_like(base), torch.zeros_like(base)
    for expert, scale in zip(experts, scales, strict=True):
        delta = expert - base
        touched = (delta.abs() > epsilon).to(base.dtype)
        delta.mul_(touched)
        touching.add_(touched)
        total.add_(delta)
        alone.add_(delta, alpha=scale)
    shared = total.div_(touching.clamp(min=1))
    return torch.where(touching > 1, shared, alone).add_(base)


def counts(base: Tensor, experts: Sequence[Tensor], start: int, *, epsilon: float) -> list[float]:
    """How many entries each expert touches together with others, then how many each touches alone."""
    masks = [(expert - base).abs() > epsilon for expert in experts]
    touching = torch.zeros(base.shape, dtype=torch.int32, device=base.device)
    for mask in masks:
        touching += mask
    together, alone = touching > 1, touching == 1
    return [float((mask & where).sum()) for where in (together, alone) for mask in masks]
