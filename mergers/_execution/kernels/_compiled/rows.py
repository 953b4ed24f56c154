"""DELLA's masks: entries ranked by |x - b| within each row, kept by random bits against a chance of their own."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .jit import inlined, kernel
from .lanes import STEP, floats
from .memory import store_float32
from .order import patterns
from .sparse import word

Array: TypeAlias = np.ndarray[Any, Any]

_NEVER = 255
_BINS = 1 << 11  # 16 powers of two below the largest of the row
_FEW = 48


@kernel
def keys(
    addresses: Array,
    codes: Array,
    whole: int,
    rest: int,
    columns: int,
    position: int,
    random: Array,
    lows: Array,
    highs: Array,
    out: Array,
) -> Array:
    """Write for every entry of whole rows the first choice of chances that keeps it, 255 if none does.

    Args:
        addresses: rows as everywhere; columns b, x. The stretch starts with a row.
        codes: types of the columns.
        whole: entries in whole vectors.
        rest: entries left.
        columns: entries per row.
        position: of the first entry, in the whole tensor.
        random: two keys, and whether the upper half of the word counts; int64.
        lows: chance of the smallest entry of a row, for each choice; ascending in steps of 1/64.
        highs: chance of the largest.
        out: bytes, one per entry.

    Returns:
        For each choice the sum of |x - b| over the entries that are kept from it on, but not before it.
    """
    room = columns + 2 * STEP
    bits, draws = np.empty(room, np.uint32), np.empty(room, np.uint32)
    draws_at = np.int64(draws.ctypes.data)
    entries, ends = np.empty(columns, np.uint64), np.empty(_BINS, np.int64)
    sizes = bits.view(np.float32)
    sums = np.zeros(lows.size + 1, np.float64)
    shift = np.uint32(16 if random[2] else 0)
    levels = np.empty(columns, np.int64)
    for rank in range(columns):
        levels[rank] = _level(lows[0], highs[0], rank, columns)
    for start in range(0, whole + rest, columns):
        first = start - start % STEP
        skipped = start - first
        patterns(addresses, codes, whole, first, start + columns, bits)
        for entry in range(first, start + columns, STEP):
            words = word(position + entry, np.uint32(random[0]), np.uint32(random[1]))
            store_float32(draws_at, entry - first, floats(words))
        _sort(bits[skipped : skipped + columns], entries, ends)
        for rank in range(columns):
            place = columns - 1 - np.int64(entries[rank] & np.uint64(0xFFFFFFFF))
            drawn = np.int64((draws[skipped + place] >> shift) & np.uint32(0xFFFF))
            choice = 0
            if drawn >= min(65535, max(1, levels[rank])):
                # Levels of successive choices lie 1024 apart. Every choice from the one before is tested exactly.
                choice = max(1, min(lows.size, (drawn - levels[rank]) >> 10))
                while choice < lows.size:
                    if drawn < min(65535, max(1, _level(lows[choice], highs[choice], rank, columns))):
                        break
                    choice += 1
            sums[choice] += sizes[skipped + place]
            out[start + place] = choice if choice < lows.size else _NEVER
    return sums[: lows.size]


@inlined
def _level(low: float, high: float, rank: int, columns: int) -> int:
    """What random bits must be below, before that is limited to [1, 65535]."""
    chance = (low + high) / 2.0 if columns == 1 else low + (high - low) * rank / (columns - 1)
    return int(np.floor(chance * 65536.0 + 0.5))


@inlined
def _sort(bits: Array, entries: Array, ends: Array) -> None:
    """Fill `entries`, from the last in the order (see `_plan`) to the first: bits, and 32 bits of place from the end.

    First by exponent and 7 bits of mantissa, into bins; then within each bin.
    """
    count = bits.size
    largest = np.uint32(0)
    for i in range(count):
        largest = max(largest, bits[i])
    lowest = int(largest >> np.uint32(16)) - (_BINS - 1)
    ends[:] = 0
    for i in range(count):
        ends[max(0, int(bits[i] >> np.uint32(16)) - lowest)] += 1
    before = 0
    for bin_ in range(_BINS):
        here = ends[bin_]
        ends[bin_] = before
        before += here
    for i in range(count):
        bin_ = max(0, int(bits[i] >> np.uint32(16)) - lowest)
        entries[ends[bin_]] = (np.uint64(bits[i]) << np.uint64(32)) | np.uint64(count - 1 - i)
        ends[bin_] += 1
    first = 0
    for bin_ in range(_BINS):
        end = ends[bin_]
        if end - first > _FEW:
            entries[first:end].sort()
        else:
            for i in range(first + 1, end):
                entry = entries[i]
                at = i
                while at > first and entries[at - 1] > entry:
                    entries[at] = entries[at - 1]
                    at -= 1
                entries[at] = entry
        first = end
