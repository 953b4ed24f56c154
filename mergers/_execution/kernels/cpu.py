"""Fused kernels for tensors in a CPU's memory. Each call works in the calling thread, without the GIL.

Written by numba for the processor at hand on first use, kept on disk (see `_compiled.jit`): a second or two per kernel
once, some milliseconds afterwards. Importing this file imports no numba.

Results depend neither on the processor nor on how a caller cuts a tensor, provided cuts are at multiples of 65,536
entries: products and sums are single float32 operations; float64 sums run over 64 lanes in blocks of 65,536.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_uint8
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ..._maths.draw import Draw
from ..._plan import (
    NOTHING_YET,
    Band,
    Clipped,
    Everything,
    Mask,
    Nothing,
    Random,
    Ranked,
    Sparse,
    Touched,
    Weighted,
)
from ._order import rank, ranks
from ._raw import STEP, Raw, Stretch, raw, scratch

__all__ = [
    "Raw",
    "available",
    "clipped",
    "gram",
    "l1",
    "nonfinite",
    "random_sum",
    "random_sums",
    "rank",
    "ranked_keys",
    "ranked_mask",
    "ranks",
    "raw",
    "sparse",
    "touched",
    "weighted",
]

Sums = np.ndarray[Any, np.dtype[np.float64]]

_ALL, _ABOVE, _BETWEEN, _RANDOM, _TABLE = range(5)


@cache
def available() -> bool:
    """Whether numba is there, allowed to compile, and the processor converts float16 (x86 since 2012, every ARM64)."""
    try:
        import numba
        from llvmlite.binding import get_host_cpu_features
    except ImportError:
        return False
    wanted = getattr(numba.config, "CPU_FEATURES", None)
    halves = get_host_cpu_features().get("f16c", True) if wanted is None else "+f16c" in wanted
    return halves and not getattr(numba.config, "DISABLE_JIT", 0)


def weighted(base: Raw | None, experts: Sequence[Raw], plan: Weighted, out: Raw, start: int, stop: int) -> int:
    """Write entries [start, stop) of a weighted sum.

    Args:
        base: None where the plan has none.
        experts: one per coefficient.
        plan: what to compute.
        out: where to; overlaps no input.
        start: first entry.
        stop: one past the last.

    Returns:
        How many of the entries written are inf or nan (in the type of `out`).
    """
    from ._compiled.elementwise import weighted as kernel

    coefficients = list(plan.experts)
    inputs = list(experts)
    if base is not None and plan.base != 0:
        inputs.insert(0, base)
        coefficients.insert(0, plan.base)
    assert len(inputs) == len(coefficients) > 0, "a coefficient per input"
    stretch = Stretch([*inputs, out], start, stop)
    factors = np.array(coefficients, dtype=np.float32)
    bad = kernel(stretch.addresses, stretch.codes, factors, stretch.whole, stretch.rest)
    stretch.finish()
    return bad


def sparse(
    base: Raw,
    experts: Sequence[Raw],
    plan: Sparse,
    out: Raw,
    start: int,
    stop: int,
    keys: Sequence[Raw | None] = (),
) -> int:
    """Write entries [start, stop) of a merge of masked differences.

    Args:
        base: what the differences are from.
        experts: one per mask.
        plan: what to compute.
        out: where to; overlaps no input.
        start: first entry.
        stop: one past the last.
        keys: per expert with a `Ranked` mask a byte per entry, from `ranked_keys` or `ranked_mask`; None for others.

    Returns:
        How many of the entries written are inf or nan (in the type of `out`).
    """
    from ._compiled.sparse import BLOCK
    from ._compiled.sparse import sparse as kernel

    assert len(experts) == len(plan.masks) == len(plan.weights) == len(plan.scales), "a mask per expert"
    tables = [*keys, *[None] * (len(experts) - len(keys))]
    active = [i for i, mask in enumerate(plan.masks) if not isinstance(mask, Nothing)]
    factors = _factors(plan, active)
    ranks, lasts = _ranks([plan.masks[i] for i in active])
    mode = plan.consensus + 2 * plan.weighted_election + 4 * (plan.divide != "no") if plan.consensus else 0
    bad = 0
    for low, high in _pieces(start, stop):
        stretch = Stretch([base, *(experts[i] for i in active), *(tables[i] for i in active), out], low, high)
        masks = _masks([plan.masks[i] for i in active], low // _PERIOD)
        bad += kernel(
            stretch.addresses,
            stretch.codes,
            masks,
            factors,
            ranks,
            lasts,
            np.float32(plan.lambda_),
            mode,
            low,
            stretch.whole,
            stretch.rest,
            scratch(2 * len(active) * STEP + (len(active) + 1) * BLOCK, np.float32),
        )
        stretch.finish()
    return bad


def clipped(base: Raw, expert: Raw, plan: Clipped, out: Raw, start: int, stop: int) -> int:
    """Write entries [start, stop) of the base moved by a clipped difference; arguments and result as in `weighted`."""
    from ._compiled.elementwise import clipped as kernel

    stretch = Stretch([base, expert, out], start, stop)
    numbers = np.float32(plan.scale), np.float32(plan.limit)
    bad = kernel(stretch.addresses, stretch.codes, *numbers, stretch.whole, stretch.rest)
    stretch.finish()
    return bad


def touched(base: Raw, experts: Sequence[Raw], plan: Touched, out: Raw, start: int, stop: int) -> int:
    """Write entries [start, stop) of the differences of those that touch them; see `weighted`."""
    from ._compiled.elementwise import touched as kernel

    stretch = Stretch([base, *experts, out], start, stop)
    scales = np.array(plan.scales, dtype=np.float32)
    bad = kernel(stretch.addresses, stretch.codes, np.float32(plan.epsilon), scales, stretch.whole, stretch.rest)
    stretch.finish()
    return bad


def nonfinite(x: Raw, start: int, stop: int) -> int:
    """How many of entries [start, stop) are inf or nan."""
    from ._compiled.elementwise import nonfinite as kernel

    stretch = Stretch([x], start, stop)
    return kernel(*stretch.tables)


def l1(base: Raw, expert: Raw, start: int, stop: int) -> float:
    """The sum of |x - b| over entries [start, stop), in float64."""
    from ._compiled.sums import l1 as kernel

    stretch = Stretch([base, expert], start, stop)
    return kernel(*stretch.tables)


def gram(base: Raw | None, experts: Sequence[Raw], *, deltas: bool, start: int, stop: int) -> Sums:
    """Dot products over entries [start, stop), in float64: symmetric, a row and a column per vector.

    Args:
        base: needed for differences.
        experts: one or more.
        deltas: of the experts' differences from the base; otherwise of the inputs, the base (if any) first.
        start: first entry.
        stop: one past the last.
    """
    from ._compiled.sums import PART
    from ._compiled.sums import gram as kernel

    assert base is not None or not deltas, "differences need a base"
    stretch = Stretch([*([] if base is None else [base]), *experts], start, stop)
    count = stretch.codes.size - deltas
    return kernel(*stretch.tables, deltas, scratch(count * PART + count * count * STEP, np.float64))


def random_sums(base: Raw, expert: Raw, seed: int, name: str, index: int) -> Sums:
    """The sums of |x - b| that random masks of thresholds 1024 j keep, j = 0 .. 64: nothing to everything.

    Args:
        base: flat.
        expert: flat.
        seed: of the merge.
        name: of the tensor.
        index: of the expert, whose random bits these are.
    """
    from ._compiled.order import drawn as kernel

    sums = np.zeros(64, dtype=np.float64)
    for start, stop in _pieces(0, expert.size):
        keys = _keys_at(seed, name, index, start)
        stretch = Stretch([base, expert], start, stop)
        sums += kernel(*stretch.tables, start, *keys, index % 2, scratch(STEP, np.float64), scratch(STEP, np.uint32))
    return np.concatenate(([0.0], np.cumsum(sums)))


def random_sum(base: Raw, expert: Raw, seed: int, name: str, index: int, threshold: int) -> float:
    """The sum of |x - b| that one random mask keeps; arguments as for `random_sums`."""
    from ._compiled.sums import drawn as kernel

    total = 0.0
    for start, stop in _pieces(0, expert.size):
        keys = _keys_at(seed, name, index, start)
        stretch = Stretch([base, expert], start, stop)
        total += kernel(*stretch.tables, start, *keys, index % 2, threshold)
    return total


def ranked_mask(
    base: Raw, expert: Raw, mask: Ranked, shape: Sequence[int], row_start: int, row_stop: int, out: Raw
) -> float:
    """Write DELLA's mask for some rows: a byte per entry, 0 where kept, 255 elsewhere.

    Args:
        base: flat.
        expert: flat.
        mask: what to keep.
        shape: of the tensor; ranks run along the last dimension, all others are rows.
        row_start: first row.
        row_stop: one past the last.
        out: uint8, as long as the tensor.

    Returns:
        The sum of |x - b| kept.
    """
    chances = np.array([[mask.low], [mask.high]], dtype=np.float64)
    stream = mask.seed, mask.name, mask.expert
    return float(_keys(base, expert, stream, chances, shape, row_start, row_stop, out)[0])


def ranked_keys(
    base: Raw, expert: Raw, seed: int, name: str, index: int, epsilon: float, shape: Sequence[int], out: Raw
) -> Sums:
    """Write DELLA's masks of all densities j / 64 at once: per entry the smallest j that keeps it, 255 for none.

    An entry is kept at density j / 64 where its byte is at most j: chances grow with the density.

    Args:
        base: flat.
        expert: flat.
        seed: of the merge.
        name: of the tensor.
        index: of the expert, whose random bits these are.
        epsilon: half of how far the chances of the largest and the smallest entry of a row are apart.
        shape: of the tensor.
        out: uint8, as long as the tensor.

    Returns:
        The sums of |x - b| that densities j / 64 keep, j = 0 .. 64.
    """
    densities = np.arange(65) / 64
    chances = np.stack([densities - epsilon, densities + epsilon])
    rows = expert.size // max(1, _columns(shape))
    return np.cumsum(_keys(base, expert, (seed, name, index), chances, shape, 0, rows, out))


def _keys_at(seed: int, name: str, index: int, position: int) -> tuple[np.uint32, np.uint32]:
    first, second = Draw(seed, name).keys(index // 2, position // _PERIOD)
    return np.uint32(first), np.uint32(second)


def _keys(
    base: Raw,
    expert: Raw,
    stream: tuple[int, str, int],
    chances: Sums,
    shape: Sequence[int],
    row_start: int,
    row_stop: int,
    out: Raw,
) -> Sums:
    from ._compiled.rows import keys as kernel

    seed, name, index = stream
    columns = _columns(shape)
    assert out.code == 3, "a mask is a table of bytes"
    assert row_stop * columns <= out.size == expert.size, "a byte per entry"
    sums = np.zeros(chances.shape[1], dtype=np.float64)
    if not expert.size:
        return sums
    for start, stop in _pieces(row_start * columns, row_stop * columns):
        assert start % columns == 0, "random keys change within a row: no tensor has rows that long and 2^32 entries"
        keys = _keys_at(seed, name, index, start)
        target = np.ctypeslib.as_array((c_uint8 * (stop - start)).from_address(out.address + start))
        random = np.array([*keys, index % 2], dtype=np.int64)
        stretch = Stretch([base, expert], start, stop)
        lows, highs = chances
        sums += kernel(*stretch.tables, columns, start, random, lows, highs, target)
    return sums


def _columns(shape: Sequence[int]) -> int:
    return shape[-1] if shape else 1


_PERIOD = 1 << 32  # entries with the same random keys


def _pieces(start: int, stop: int) -> list[tuple[int, int]]:
    """[start, stop), cut where the random keys change."""
    cuts = range(start - start % _PERIOD + _PERIOD, stop, _PERIOD)
    return list(pairwise((start, *cuts, stop))) if start < stop else []


def _factors(plan: Sparse, active: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Per expert: factor of its difference in the vote, in the sum, and its share of the divisor."""
    rows = []
    for i in active:
        value = plan.weights[i] * plan.scales[i]
        vote = value if plan.weighted_election or not plan.consensus else plan.scales[i]
        rows.append((vote, value, plan.weights[i] if plan.divide == "weights" else 1.0))
    return np.array(rows, dtype=np.float32).reshape(-1, 3)


def _ranks(masks: Sequence[Mask]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Per expert the ranks up to and after which entries are kept: (threshold, next number below), last position."""
    pairs = [(mask.upto, mask.above) if isinstance(mask, Band) else (NOTHING_YET, NOTHING_YET) for mask in masks]
    ends = [rank for pair in pairs for rank in pair]
    thresholds = np.array([rank.threshold for rank in ends], dtype=np.float32)
    below = np.where(thresholds > 0, np.nextafter(thresholds, np.float32(-1)), np.float32(-1))
    lasts = np.array([rank.last for rank in ends], dtype=np.int64)
    return np.stack([thresholds, below], axis=1), lasts


def _masks(masks: Sequence[Mask], period: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Per expert what `_compiled.sparse` wants to know, for entries from `period` * 2^32 on."""
    rows: list[tuple[int, ...]] = []
    drawn: tuple[object, ...] | None = None
    for mask in masks:
        match mask:
            case Band(above, _):
                rows.append((_ABOVE if above == NOTHING_YET else _BETWEEN, 0, 0, 0, 0, 0))
            case Random(seed, name, expert, threshold):
                stream = (seed, name, expert // 2)
                keys = Draw(seed, name).keys(expert // 2, period)
                rows.append((_RANDOM, stream != drawn, *keys, expert % 2, threshold << 16 * (expert % 2)))
                drawn = stream
            case Ranked(_, _, _, low, high):
                # Tables made for one density hold 0 and 255; those of `ranked_keys` the step of 1/64 kept first.
                rows.append((_TABLE, 0, 0, 0, 0, round(32 * (low + high))))
            case Everything() | Nothing():
                rows.append((_ALL, 0, 0, 0, 0, 0))
    return np.array(rows, dtype=np.int64).reshape(-1, 6)
