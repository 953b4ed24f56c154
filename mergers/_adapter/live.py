"""The short road of LoRA experts: under a linear method a candidate is one low-rank product for each tensor.

Live models and written checkpoints both take it where it is open, so that both hold the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .._checkpoint.sources import Opened
from .._errors import InputError
from .._spec import Plain
from .combine import linear_weights
from .factors import LowRankMerge
from .fold import Folded

LINEAR = ("linear", "task_arithmetic")


def low_rank_of(opened: Opened, method: str, device: torch.device) -> LowRankMerge | None:
    """The factors of all experts on `device`; None where the method is not linear or an expert is no plain adapter."""
    if method not in LINEAR:
        return None
    key = str(device)
    if key not in opened.low_rank:
        opened.low_rank[key] = _factors(opened, device)
    return opened.low_rank[key]


def merge_low_rank(low: LowRankMerge, method: str, params: Mapping[str, Plain], name: str, out: Tensor) -> None:
    """Write tensor `name` of the merge into `out`: `c b + sum w_i B_i A_i`, float32, rounded once.

    Raises:
        InputError: a result is not finite.
    """
    experts = len(params["weight"])  # type: ignore[arg-type]  # per expert, so a tuple
    base_weight, weights = linear_weights(method, params, experts)
    out.copy_(low.merged(name, weights, base_weight))
    bad = out.numel() - int(torch.isfinite(out).sum())
    if bad:
        raise InputError(f"tensor {name}: the merge holds {bad} values that are not finite; look at base and adapters")


def _factors(opened: Opened, device: torch.device) -> LowRankMerge | None:
    base = opened.base.checkpoint
    experts = [reader.checkpoint for reader in opened.experts]
    folded = [one for one in experts if isinstance(one, Folded) and one.base.path.resolve() == base.path.resolve()]
    if len(folded) < len(experts) or opened.notes_of_vocabulary:
        return None
    try:
        return LowRankMerge(base, [one.adapter for one in folded], device)
    except InputError:  # DoRA: its change is not of low rank; folding it is exact
        return None
