"""Order statistics of |x - b| by counting bit patterns: for numbers that are not negative, the order of the bits.

Columns of the tables are b, x. The upper half of a pattern has 15 bits (no sign), the lower half 16.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .jit import inlined, kernel
from .lanes import STEP, doubles, every, floats, magnitude, places
from .memory import load, store_doubles, store_float32, store_lanes
from .sparse import word

Array: TypeAlias = np.ndarray[Any, Any]

UPPER, LOWER, HASH = 1 << 15, 1 << 16, 13
_PART = 4096  # entries looked at together, in the first-level cache
_NEAR = 8
_FLUSH = 1 << 23  # entries after which a packed counter may be full


@inlined
def patterns(addresses: Array, codes: Array, whole: int, first: int, stop: int, into: Array) -> None:
    """Write the bits of |x - b| of entries [first, stop) to `into`, rounded up to whole vectors."""
    into_at = np.int64(into.ctypes.data)
    for entry in range(first, stop, STEP):
        at = addresses[0] if entry < whole else addresses[1]
        size = magnitude(load(at[1], codes[1], entry) - load(at[0], codes[0], entry))
        store_float32(into_at, entry - first, size)


@kernel
def upper(addresses: Array, codes: Array, whole: int, rest: int) -> Array:
    """Of each upper half: how many entries have it (row 0), and the sum of their lower halves (row 1); int64."""
    bits = np.empty(_PART, np.uint32)
    result = np.zeros((2, UPPER), np.int64)
    # Both in one counter: one addition serves both. Two tables: equal neighbours needn't wait for each other.
    packed = np.zeros((2, UPPER), np.int64)
    size = whole + rest
    for stretch in range(0, size, _FLUSH):
        end = min(size, stretch + _FLUSH)
        for first in range(stretch, end, _PART):
            stop = min(end, first + _PART)
            patterns(addresses, codes, whole, first, stop, bits)
            for i in range(stop - first):
                packed[i & 1, bits[i] >> np.uint32(16)] += (np.int64(1) << 40) | np.int64(bits[i] & np.uint32(0xFFFF))
        for half in range(UPPER):
            for table in range(2):
                result[0, half] += packed[table, half] >> 40
                result[1, half] += packed[table, half] & ((np.int64(1) << 40) - 1)
                packed[table, half] = 0
    return result


@kernel
def lower(addresses: Array, codes: Array, whole: int, rest: int, slots: Array, count: int) -> Array:
    """How many entries have each lower half, a row for each of `count` upper halves.

    `slots` holds 2 * row + 1 for each of these, 0 for all others. (Nothing here branches on the data: it would be
    guessed, half of the time wrongly.) The two bytes of a lower half are swapped: the last bits of most differences of
    16-bit numbers are 0, so that those that occur lie together.
    """
    bits = np.empty(_PART, np.uint32)
    result = np.zeros((count, LOWER), np.uint32)
    size = whole + rest
    for first in range(0, size, _PART):
        stop = min(size, first + _PART)
        patterns(addresses, codes, whole, first, stop, bits)
        for i in range(stop - first):
            slot = np.int64(slots[bits[i] >> np.uint32(16)])
            inside = slot & 1
            swapped = (np.int64(bits[i]) & 0xFF) << 8 | (np.int64(bits[i]) >> 8 & 0xFF)
            result[slot >> 1, swapped & ((_NEAR - 1) | (-inside & (LOWER - 1)))] += np.uint32(inside)
    return result


@kernel
def ends(numbers: Array, rows: Array, counts: Array) -> Array:
    """Where in a row of `lower`, from its largest lower half down, each count ends.

    Args:
        numbers: what `lower` returned.
        rows: in which row each count ends; equal ones together.
        counts: within the row, ascending for equal rows.

    Returns:
        Int64, for each count: the lower half it ends with, how many entries of that it takes, the sum of larger ones.
    """
    result = np.empty((rows.size, 3), np.int64)
    half, taken, sum_ = LOWER - 1, np.int64(0), np.int64(0)
    for i in range(rows.size):
        if i == 0 or rows[i] != rows[i - 1]:
            half, taken, sum_ = LOWER - 1, np.int64(0), np.int64(0)
        row = numbers[rows[i]]
        while True:
            here = np.int64(row[(half & 0xFF) << 8 | half >> 8])
            if taken + here >= counts[i]:
                break
            taken += here
            sum_ += here * half
            half -= 1
        result[i, 0], result[i, 1], result[i, 2] = half, counts[i] - taken, sum_
    return result


@kernel
def all_patterns(addresses: Array, codes: Array, whole: int, rest: int, into: Array) -> None:
    """Write the bits of all |x - b| to `into`, which has room for whole vectors."""
    patterns(addresses, codes, whole, 0, whole + rest, into)


@kernel
def positions(
    addresses: Array, codes: Array, whole: int, rest: int, factor: np.uint32, rows: Array, wanted: Array, ties: Array
) -> Array:
    """The position of the `ties[i]`-th entry (from 1) of pattern `wanted[i]`, for all i; each is known to exist.

    Args:
        addresses: rows as everywhere.
        codes: types of the columns.
        whole: entries in whole vectors.
        rest: entries left.
        factor: pattern times factor, its upper `HASH` bits: where in `rows` the first i of a pattern stands.
        rows: int16; where no pattern stands, any.
        wanted: ascending, equal ones by `ties`; uint32.
        ties: no two the same for one pattern; int64.
    """
    count = wanted.size
    bits = np.empty(_PART, np.uint32)
    following, seen = np.arange(count), np.zeros(count, np.int64)
    numbers = np.empty((4, count), np.int64)  # four: equal neighbours needn't wait for each other
    result = np.full(count, -1, np.int64)
    missing = count
    size = whole + rest
    for first in range(0, size, _PART):
        if not missing:
            break
        stop = min(size, first + _PART)
        patterns(addresses, codes, whole, first, stop, bits)
        numbers[:] = 0
        for i in range(stop - first):
            row = rows[np.uint32(bits[i] * factor) >> np.uint32(32 - HASH)]
            numbers[i & 3, row] += wanted[row] == bits[i]
        for row in range(count):
            here = numbers[0, row] + numbers[1, row] + numbers[2, row] + numbers[3, row]
            at = following[row]
            while at < count and wanted[at] == wanted[row] and ties[at] <= seen[row] + here:
                left, i = ties[at] - seen[row], -1
                while left:
                    i += 1
                    left -= bits[i] == wanted[row]
                result[at] = first + i
                missing -= 1
                at += 1
            following[row] = at
            seen[row] += here
    return result


@kernel
def drawn(
    addresses: Array,
    codes: Array,
    whole: int,
    rest: int,
    position: int,
    key: np.uint32,
    key2: np.uint32,
    high: int,
    sizes: Array,
    bins: Array,
) -> Array:
    """Sums of |x - b| by the upper 6 of an entry's 16 random bits (those of the word's upper half if `high`).

    `sizes` and `bins` have room for 64 float64 and 64 uint32.
    """
    sizes_at: int = sizes.ctypes.data
    bins_at: int = bins.ctypes.data
    sums = np.zeros(4 * 64, np.float64)  # four tables, so that equal neighbours needn't wait for each other
    table = (places() << every(np.uint32(5))) & every(np.uint32(3 << 6))
    shift = every(np.uint32(26 if high else 10))
    for entry in range(0, whole + rest, STEP):  # beyond the end differences are 0
        at = addresses[0] if entry < whole else addresses[1]
        size = magnitude(load(at[1], codes[1], entry) - load(at[0], codes[0], entry))
        drawn = (word(position + entry, key, key2) >> shift) & every(np.uint32(63))
        store_doubles(sizes_at, 0, doubles(size))
        store_lanes(bins_at, 0, floats(drawn | table))
        for lane in range(STEP):
            sums[bins[lane]] += sizes[lane]
    result: Array = sums[:64] + sums[64:128] + sums[128:192] + sums[192:]
    return result
