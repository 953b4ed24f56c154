"""What the CPU kernels cost by themselves: one thread, inputs in the second-level cache and inputs in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from mergers._execution.kernels import cpu
from mergers._plan import NOTHING_YET, Band, Everything, Mask, Random, Rank, Sparse, Weighted

EXPERTS = 6
SIZES = {"cache": (1 << 16, 60), "memory": (1 << 24, 8)}
"""Place of the inputs -> entries of a tensor, timed calls."""


def profile() -> dict[str, dict[str, float]]:
    """Place of the inputs -> plan -> nanoseconds per entry and expert (the fastest of several calls)."""
    return {place: _profile(*size) for place, size in SIZES.items()}


def _profile(entries: int, calls: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    base = (0.02 * torch.randn(entries, generator=generator)).to(torch.bfloat16)
    moved = [(base.float() + 0.002 * torch.randn(entries, generator=generator)).bfloat16() for _ in range(EXPERTS)]
    target = torch.empty_like(base)
    first, inputs, out = cpu.raw(base), [cpu.raw(x) for x in moved], cpu.raw(target)
    weight = (0.3,) * EXPERTS
    everything: tuple[Mask, ...] = (Everything(),) * EXPERTS
    largest: tuple[Mask, ...] = (Band(NOTHING_YET, Rank(0.0015, 5)),) * EXPERTS
    drawn: tuple[Mask, ...] = tuple(Random(1, "name", i, 1 << 15) for i in range(EXPERTS))

    def sparse(masks: tuple[Mask, ...], *, consensus: bool) -> Callable[[], Any]:
        divide: Any = "weights" if consensus else "no"
        plan = Sparse(masks, (1.0,) * EXPERTS, weight, consensus=consensus, divide=divide)
        return lambda: cpu.sparse(first, inputs, plan, out, 0, entries)

    plans: dict[str, Callable[[], Any]] = {
        "linear": lambda: cpu.weighted(first, inputs, Weighted(0.1, weight), out, 0, entries),
        "differences": sparse(everything, consensus=False),
        "differences, thresholds (breadcrumbs)": sparse(largest, consensus=False),
        "differences, random masks (dare_linear)": sparse(drawn, consensus=False),
        "differences, thresholds, signs (ties)": sparse(largest, consensus=True),
        "differences, random masks, signs (dare_ties)": sparse(drawn, consensus=True),
    }
    return {name: round(1e9 * _fastest(call, calls) / entries / EXPERTS, 4) for name, call in plans.items()}


def _fastest(call: Callable[[], Any], calls: int) -> float:
    call()
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)
