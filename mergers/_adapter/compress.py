"""An adapter at a smaller rank, with what that loses."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .._errors import InputError
from .adapter import Adapter, Lazy, LowRank

if TYPE_CHECKING:
    from torch import Tensor


def compress(adapter: Adapter, rank: int) -> tuple[Adapter, dict[str, float]]:
    """The nearest adapter of at most `rank` (Eckart-Young: truncated SVD), and what each change loses.

    Never forms a change: with QR of both factors, B = Q R and A^T = P S, the singular values of B A are those of the
    small R S^T. Float64 throughout. Each factor gets the root of the singular values, so that neither is rounded
    away in a narrow type.

    Args:
        adapter: its replaced tensors and rows stay as they are, as do changes whose rank is not larger.
        rank: at least 1.

    Returns:
        The adapter, and by tensor `|change - kept| / |change|` in the Frobenius norm; 0 for a change of 0.

    Raises:
        InputError: rank below 1; a DoRA adapter.
    """
    if rank < 1:
        raise InputError(f"rank must be at least 1, got {rank}; give the rank that adapters are to have")
    changes, errors = dict(adapter.changes), {}
    for name, change in adapter.changes.items():
        if change.low_rank is None:
            continue
        adapter.refuse_magnitude(name)
        errors[name] = 0.0
        if change.low_rank.rank > rank:
            low, errors[name] = _truncated(change.low_rank, rank)
            changes[name] = replace(change, low_rank=low)
    return Adapter(adapter.name, changes, adapter.base_name, adapter.task_type), errors


def _truncated(low: LowRank, rank: int) -> tuple[LowRank, float]:
    import torch

    outer, left = torch.linalg.qr(low.b.read().to(torch.float64) * low.scale)
    inner, right = torch.linalg.qr(low.a.read().to(torch.float64).T)
    u, values, v = torch.linalg.svd(left @ right.T)
    root = values[:rank].sqrt()
    b = (outer @ (u[:, : len(root)] * root)).to(torch.float32)
    a = (root[:, None] * (v[: len(root)] @ inner.T)).to(torch.float32)
    whole = torch.linalg.vector_norm(values)
    lost = torch.linalg.vector_norm(values[rank:])
    return LowRank(_held(a), _held(b), 1.0, low.layout), float(lost / whole) if whole else 0.0


def _held(tensor: Tensor) -> Lazy:
    return Lazy(tuple(tensor.shape), "float32", partial(_same, tensor))


def _same(tensor: Tensor) -> Tensor:
    return tensor
