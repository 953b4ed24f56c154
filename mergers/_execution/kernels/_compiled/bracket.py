"""One rank of |x - b| by one look at all entries: those between two magnitudes are collected, all others counted.

Columns of the tables are b, x. The magnitudes come from a sample (`_bracket`), so that few entries lie between them.
Those that equal one of the two are counted and not collected: differences of 16-bit numbers are multiples of few
steps, and one magnitude may hold most of a tensor.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .jit import inlined, kernel
from .lanes import STEP, Flags, Floats, bitmap, every, first_bit, magnitude, places, tally
from .memory import load, store_lanes

Array: TypeAlias = np.ndarray[Any, Any]

PART = 4096
"""Entries whose equal magnitudes are counted together."""


@inlined
def _sizes(addresses: Array, codes: Array, whole: int, entry: int) -> Floats:
    at = addresses[0] if entry < whole else addresses[1]
    return magnitude(load(at[1], codes[1], entry) - load(at[0], codes[0], entry))


@kernel
def sample(addresses: Array, codes: Array, whole: int, stride: int, into: Array, scratch: Array) -> None:
    """Write |x - b| of four entries of every `stride`-th vector to `into`, whose length is a multiple of four."""
    scratch_at: int = scratch.ctypes.data
    for i in range(into.size // 4):
        store_lanes(scratch_at, 0, _sizes(addresses, codes, whole, i * stride * STEP))
        for j in range(4):
            into[4 * i + j] = scratch[8 * j]


@kernel
def around(
    addresses: Array,
    codes: Array,
    whole: int,
    rest: int,
    high: np.float32,
    low: np.float32,
    equal: Array,
    sizes: Array,
    entries: Array,
    scratch: Array,
) -> tuple[int, int]:
    """Count and collect.

    Args:
        addresses: rows as everywhere.
        codes: types of the columns.
        whole: entries in whole vectors.
        rest: entries left.
        high: the larger magnitude.
        low: the smaller one, or `high`.
        equal: int32, zeros, a row per `PART`: how many entries equal `high`, and how many `low`, are added.
        sizes: float32; magnitudes between the two are written here, as far as there is room,
        entries: int64; and where they stand, a vector's in no order.
        scratch: float32, 64.

    Returns:
        How many entries are above `high`, and how many lie between the two.
    """
    scratch_at: int = scratch.ctypes.data
    upper, lower = every(high), every(low)
    above, found = 0, 0
    for entry in range(0, whole + rest, STEP):
        size = _sizes(addresses, codes, whole, entry)
        reached, beyond, exceeded = size >= upper, size >= lower, size > lower
        topped = size > upper
        if entry >= whole:
            valid = places() < every(np.uint32(rest))
            reached, beyond, exceeded, topped = reached & valid, beyond & valid, exceeded & valid, topped & valid
        count, part = tally(topped), entry // PART
        above += count
        equal[part, 0] += tally(reached) - count
        equal[part, 1] += tally(beyond) - tally(exceeded)
        between = bitmap(exceeded) & ~bitmap(reached)
        if between:
            found = _collect(between, size, entry, found, sizes, entries, scratch, scratch_at)
    return above, found


@inlined
def _collect(
    between: int, size: Floats, entry: int, found: int, sizes: Array, entries: Array, scratch: Array, scratch_at: int
) -> int:
    store_lanes(scratch_at, 0, size)
    while between:
        lane = first_bit(between)
        between &= between - 1
        if found < sizes.size:
            sizes[found] = scratch[lane]
            entries[found] = entry + (2 * lane if lane < STEP // 2 else 2 * lane - STEP + 1)  # see `lanes.ORDER`
        found += 1
    return found


@kernel
def place(addresses: Array, codes: Array, whole: int, rest: int, first: int, size: np.float32, nth: int) -> int:
    """The position of the `nth` entry (from 1) of magnitude `size` from entry `first` on, a multiple of 64; or -1."""
    wanted = every(size)
    for entry in range(first, whole + rest, STEP):
        equal: Flags = _sizes(addresses, codes, whole, entry) == wanted
        if entry >= whole:
            equal = equal & (places() < every(np.uint32(rest)))
        here = tally(equal)
        if here < nth:
            nth -= here
            continue
        bits = bitmap(equal)
        for position in range(STEP):
            lane = position // 2 + position % 2 * (STEP // 2)
            nth -= bits >> lane & 1
            if nth == 0:
                return entry + position
    return -1
