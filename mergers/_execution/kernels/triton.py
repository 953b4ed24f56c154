"""Fused kernels for GPUs: the merge of one tensor in one pass over its inputs, with the same bytes as `blocks`.

Triton comes with torch's CUDA builds (torch 2.9: Triton 3.5) and is no dependency of its own; nothing here imports it
before a kernel runs.

Tensors are flat, contiguous and on one device, of any floating-point types, the inputs and the output of equal length.
Nothing waits for the device.

What has been run: both kernels under Triton's interpreter on a CPU (3.5.0 and 3.9.0), and compiled to machine code for
compute capabilities 8.0 and 9.0 (PTX: no fused multiply-add, IEEE division, 16-byte loads, no spilled registers up to
8 experts). What has not: the compiled code on a GPU. There `pytest tests/mergers/test_triton.py` runs the same
comparisons compiled, bit by bit. One difference is known beforehand: under Triton 3.5 a division whose operands or
quotient are below 1.2e-38 gives 0 (`div.rn.ftz`); under 3.9 it is exact.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from ..._maths.draw import Draw
from ..._plan import NOTHING_YET, Band, Mask, Nothing, Random, Sparse, Weighted

BLOCK = 1024
"""Entries per program: eight per thread, of 16-bit weights one 16-byte load."""

OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}
"""How kernels are compiled; a product and a sum fused into one rounding would be other bytes than a CPU's."""

_WINDOW = 1 << 32  # entries that share a random key


def available(device: torch.device | str) -> bool:
    """Whether the kernels run on `device`: a GPU that Triton supports (NVIDIA: compute capability 8.0), and Triton."""
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def weighted(base: Tensor | None, experts: Sequence[Tensor], plan: Weighted, out: Tensor) -> Tensor:
    """Write the weighted sum into `out`.

    Args:
        base: flat; None where the plan has no use for one.
        experts: flat, one or more.
        plan: what to compute.
        out: flat; overwritten.

    Returns:
        How many of the entries written are not finite: one int64 on the device.
    """
    from ._triton_kernels import weighted_kernel

    inputs, coefficients = tuple(experts), plan.experts
    if plan.base != 0:
        assert base is not None, "a plan with a base coefficient needs a base"
        inputs, coefficients = (base, *inputs), (plan.base, *coefficients)
    broken = torch.zeros(1, dtype=torch.int64, device=out.device)
    with _on(out.device):
        weighted_kernel[_grid(out)](
            inputs,
            _floats(coefficients),
            out,
            broken,
            out.numel(),
            BLOCK=BLOCK,
            **OPTIONS,
        )
    return broken


def sparse(
    base: Tensor, experts: Sequence[Tensor], plan: Sparse, out: Tensor, keys: Sequence[Tensor | None] = ()
) -> Tensor:
    """Write the merge of masked differences into `out`.

    Args:
        base: flat.
        experts: flat, one or more.
        plan: what to compute.
        out: flat; overwritten.
        keys: per expert with a `Ranked` mask, as long as `out`: uint8, kept where 0; None or absent for the others.

    Returns:
        How many of the entries written are not finite: one int64 on the device.
    """
    keys = (*keys, *(None,) * (len(experts) - len(keys)))
    live = tuple(i for i, mask in enumerate(plan.masks) if not isinstance(mask, Nothing))
    if not live:
        return weighted(None, (base,), Weighted(0.0, (1.0,)), out)
    plan = replace(
        plan,
        masks=tuple(plan.masks[i] for i in live),
        scales=tuple(plan.scales[i] for i in live),
        weights=tuple(plan.weights[i] for i in live),
    )
    broken = torch.zeros(1, dtype=torch.int64, device=out.device)
    for low in range(0, out.numel(), _WINDOW):
        window = slice(low, low + _WINDOW)
        parts = tuple(experts[i][window] for i in live)
        chosen = tuple(None if (key := keys[i]) is None else key[window] for i in live)
        _sparse_window(base[window], parts, plan, out[window], chosen, broken, low)
    return broken


def _sparse_window(
    base: Tensor,
    experts: tuple[Tensor, ...],
    plan: Sparse,
    out: Tensor,
    keys: tuple[Tensor | None, ...],
    broken: Tensor,
    origin: int,
) -> None:
    """The merge of entries that share a random key; they begin at `origin` of the whole tensor."""
    from ._triton_kernels import sparse_kernel

    words = tuple((m.seed, m.name, m.expert // 2) if isinstance(m, Random) else None for m in plan.masks)
    with _on(out.device):
        sparse_kernel[_grid(out)](
            base,
            experts,
            keys,
            _floats(plan.scales),
            _floats(w * s for w, s in zip(plan.weights, plan.scales, strict=True)),
            _floats(plan.weights),
            _floats(m.above.threshold if isinstance(m, Band) else 0.0 for m in plan.masks),
            _floats(m.upto.threshold if isinstance(m, Band) else 0.0 for m in plan.masks),
            _table(plan.masks, origin, out.device),
            float(plan.lambda_),
            out,
            broken,
            origin,
            out.numel(),
            KINDS=tuple(_kind(mask) for mask in plan.masks),
            HIGH=tuple(isinstance(m, Random) and m.expert % 2 == 1 for m in plan.masks),
            FRESH=_fresh(words),
            CONSENSUS=plan.consensus,
            WEIGHTED_ELECTION=plan.weighted_election,
            DIVIDE=plan.divide,
            BLOCK=BLOCK,
            **OPTIONS,
        )


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, whichever the tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _floats(numbers: Iterable[float]) -> tuple[float, ...]:
    """Of a whole number that is an int Triton would make an integer, or even a constant of the code."""
    return tuple(map(float, numbers))


def _grid(out: Tensor) -> tuple[int]:
    return (max(1, -(-out.numel() // BLOCK)),)


def _kind(mask: Mask) -> str:
    if isinstance(mask, Band):
        return "first" if mask.above == NOTHING_YET else "band"
    return type(mask).__name__.lower()


def _fresh(words: Sequence[object]) -> tuple[bool, ...]:
    """Whether each item that is not None differs from the one before it."""
    latest, result = None, []
    for word in words:
        result.append(word is not None and word != latest)
        latest = latest if word is None else word
    return tuple(result)


def _table(masks: Sequence[Mask], origin: int, device: torch.device) -> Tensor | None:
    """The integers of the masks, as the kernel reads them; None without any."""
    if not any(isinstance(mask, Band | Random) for mask in masks):
        return None
    rows = []
    for mask in masks:
        match mask:
            case Band(above, upto):
                rows.append((above.last, upto.last, 0, 0, 0))
            case Random(seed, name, expert, threshold):
                rows.append((0, 0, *Draw(seed, name).keys(expert // 2, origin // _WINDOW), threshold))
            case _:
                rows.append((0,) * 5)
    if device.type == "cpu":
        return torch.tensor(rows)
    return torch.tensor(rows, pin_memory=True).to(device, non_blocking=True)  # pageable memory would be waited for
