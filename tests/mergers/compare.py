"""One case under three definitions: mergekit 0.1.5, the slow float64 versions of tests/oracles, and our `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.mergers.whole import Whole, run

mergekit = pytest.importorskip("mergekit.merge_methods")


def theirs(experts: Sequence[Tensor], method: str, parameters: Mapping[str, Any], base: Tensor | None = None) -> Tensor:
    """What mergekit merges; `base` goes first where there is one."""
    tensors = list(experts) if base is None else [base, *experts]
    index = None if base is None else 0
    merged: Tensor = mergekit.merge_tensors(tensors, method, parameters=dict(parameters), base_index=index)
    return merged


def planned(
    plan: Callable[..., Any], experts: Sequence[Tensor], base: Tensor | None = None, **parameters: Any
) -> Tensor:
    """What our plan merges, asked and executed slowly."""
    return run(plan(Whole(experts, base), **parameters), experts, base)


def close(ours: Tensor, other: Tensor | np.ndarray[Any, Any] | Sequence[float], tolerance: float) -> None:
    """Equal within `tolerance`, for values of about 1; relative to the largest value beyond that."""
    wanted = (other if isinstance(other, Tensor) else torch.as_tensor(np.asarray(other))).double().reshape(ours.shape)
    scale = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
    torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=tolerance * scale)


def rounded_alike(ours: Tensor, other: Tensor, exact: Tensor) -> None:
    """Bfloat16 results are the same number wherever float32 arithmetic decides to which one to round.

    Undecided are entries whose exact (float64) result lies within float32 rounding of the middle between two bfloat16
    numbers; inputs of that type put many results exactly there.
    """
    slack = 1e-6 * (1 + exact.abs())
    decided = (exact - slack).bfloat16() == (exact + slack).bfloat16()
    assert float(decided.double().mean()) > 0.9
    assert torch.equal(ours.bfloat16()[decided], other[decided])
    assert torch.equal(ours.bfloat16()[decided], exact.bfloat16()[decided])


def vectors(*tensors: Tensor) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Flattened float64 arrays."""
    return [tensor.double().flatten().numpy() for tensor in tensors]


def matrices(*tensors: Tensor) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Float64 arrays of the rows along the last dimension."""
    return [tensor.double().reshape(-1, tensor.shape[-1]).numpy() for tensor in tensors]


def numbers(*tensors: Tensor) -> list[list[float]]:
    """Flat lists."""
    return [tensor.double().flatten().tolist() for tensor in tensors]
