"""Masked differences from a base, summed or by sign consensus, in one pass over the inputs.

An expert's mask is tested in registers, by its kind:

* `ABOVE`, `BETWEEN`: |d| against limits that are held per lane. A rank ends at a position; before it, entries that
  equal the threshold belong to the first ones, after it they don't. So the limit is one float32 number below the
  threshold before that position and the threshold itself behind it, and both sorts of lanes meet in one vector at most.
* `RANDOM`: 16 bits against a threshold; one 32-bit word serves two experts.
* `TABLE`: a byte per entry against a limit.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .jit import inlined, kernel
from .lanes import (
    ORDER,
    STEP,
    Floats,
    Words,
    every,
    floats,
    magnitude,
    places,
    select,
    words,
)
from .memory import expect, load, load_bytes, load_lanes, store, store_lanes

Array: TypeAlias = np.ndarray[Any, Any]

ALL, ABOVE, BETWEEN, RANDOM, TABLE = range(5)
BLOCK = 256
"""Entries whose masked differences, of all experts, stay in the first-level cache beside the inputs."""


@inlined
def word(entry: int, key: np.uint32, key2: np.uint32) -> Words:
    """The random words of 64 entries from `entry` on; see `_draw`."""
    bits = (places() + every(np.uint32(entry))) ^ every(key)
    bits = bits ^ (bits >> every(np.uint32(17)))
    bits = bits * every(np.uint32(0xED5AD4BB))
    bits = bits ^ (bits >> every(np.uint32(11)))
    bits = bits + every(key2)
    bits = bits * every(np.uint32(0xAC4C1B51))
    bits = bits ^ (bits >> every(np.uint32(15)))
    bits = bits * every(np.uint32(0x31848BAB))
    return bits ^ (bits >> every(np.uint32(14)))


@kernel
def sparse(
    addresses: Array,
    codes: Array,
    masks: Array,
    factors: Array,
    ranks: Array,
    lasts: Array,
    lambda_: np.float32,
    mode: int,
    position: int,
    whole: int,
    rest: int,
    scratch: Array,
) -> int:
    """Write the merge of masked differences; the number of entries written that are not finite.

    Args:
        addresses: rows as everywhere; columns: base, experts, a table of bytes per expert (0 for none), output.
        codes: types of the same columns.
        masks: int64, a row per expert: kind; `RANDOM`: whether a new word is drawn, its two keys, shift to the left,
            threshold (in the upper half of a word); `TABLE`: the largest byte kept in place of the threshold.
        factors: float32, a row per expert: in the vote (in a direct sum: in the sum), in the sum, in the divisor.
        ranks: float32, two rows per expert: threshold, and the next float32 number below it.
        lasts: int64, positions that belong to `ranks`.
        lambda_: scale of the merged difference, float32.
        mode: 0 direct sum; consensus if bit 0 is set, with signs of the weighted differences if bit 1 is, divided if
            bit 2 is.
        position: of the first entry, in the whole tensor.
        whole: entries in whole vectors.
        rest: entries left.
        scratch: float32, two rows of 64 per expert, and `BLOCK` for all experts and one more.
    """
    experts = masks.shape[0]
    limits_at = np.int64(scratch.ctypes.data)
    merged_at = limits_at + 2 * experts * STEP * 4
    kept_at = merged_at + BLOCK * 4
    none, bits = every(np.float32(0)), every(np.uint32(0))
    width = 2 if codes[1 + 2 * experts] else 4  # bytes of an entry written
    bad = 0
    for part in range(2 if rest else 1):
        edge, last, valid = (whole, whole + STEP, rest) if part else (0, whole, STEP)
        at = addresses[part]
        while edge < last:
            first, edge = edge, _fill(scratch, ranks, lasts, position, edge, last)
            for block in range(first, edge, BLOCK):
                end = min(edge, block + BLOCK)
                # Three loops over a few vectors, since what one finds for a vector, the next waits for.
                for entry in range(block, end, STEP):
                    row = (entry - block) // STEP
                    base = load(at[0], codes[0], entry)
                    sum_ = none
                    expect(at[1 + 2 * experts] + entry * width)
                    for i in range(experts):
                        delta = load(at[1 + i], codes[1 + i], entry) - base
                        kind = masks[i, 0]
                        # `value` in every branch: masks that cross branches get packed and unpacked.
                        if kind == ABOVE:
                            keep = magnitude(delta) > load_lanes(limits_at, 2 * i)
                            value = select(keep, every(factors[i, 0]) * delta, none)
                        elif kind == RANDOM:
                            if masks[i, 1]:
                                bits = word(position + entry, np.uint32(masks[i, 2]), np.uint32(masks[i, 3]))
                            chance = every(np.uint32(masks[i, 5]))
                            if masks[i, 4]:
                                value = select(bits < chance, every(factors[i, 0]) * delta, none)
                            else:
                                lower = bits & every(np.uint32(0xFFFF))
                                value = select(lower < chance, every(factors[i, 0]) * delta, none)
                        elif kind == BETWEEN:
                            size = magnitude(delta)
                            keep = (size > load_lanes(limits_at, 2 * i)) & (size <= load_lanes(limits_at, 2 * i + 1))
                            value = select(keep, every(factors[i, 0]) * delta, none)
                        elif kind == TABLE:
                            found = load_bytes(at[1 + experts + i], entry)
                            keep = found <= every(np.uint32(masks[i, 5]))
                            value = select(keep, every(factors[i, 0]) * delta, none)
                        else:
                            value = every(factors[i, 0]) * delta
                        sum_ = sum_ + value
                        if mode & 1:  # an expert's scale is at least 1: it takes no difference to zero
                            seen = value if mode & 2 else select(value != none, delta, none)
                            store_lanes(kept_at, row * experts + i, seen)
                    store_lanes(merged_at, row, sum_)
                if mode & 1:
                    for row in range((end - block) // STEP):
                        agreed = _agreed(kept_at + row * experts * STEP * 4, factors, load_lanes(merged_at, row), mode)
                        store_lanes(merged_at, row, agreed)
                for entry in range(block, end, STEP):
                    merged = every(lambda_) * load_lanes(merged_at, (entry - block) // STEP)
                    result = load(at[0], codes[0], entry) + merged
                    bad += store(at[1 + 2 * experts], codes[1 + 2 * experts], entry, result, valid)
    return bad


@inlined
def _agreed(kept: int, factors: Array, vote: Floats, mode: int) -> Floats:
    """The sum over the experts whose sign is that of `vote`, divided if bit 2 of `mode` is set.

    Row i of the table at `kept` holds what the vote has seen of expert i. Not a number where the vote is not finite.
    """
    none = every(np.float32(0))
    # A sum that begins with +0 is never -0, so its sign bit says it all.
    flip = words(vote) & every(np.uint32(1 << 31))
    sum_ = vote - vote
    if mode & 4:
        divisor = none
        for i in range(factors.shape[0]):
            seen = load_lanes(kept, i)
            agrees = floats(words(seen) ^ flip) > none
            value = seen if mode & 2 else every(factors[i, 1]) * seen
            sum_ = select(agrees, sum_ + value, sum_)
            divisor = select(agrees, divisor + every(factors[i, 2]), divisor)
        return select(divisor != none, sum_ / divisor, sum_)
    for i in range(factors.shape[0]):
        seen = load_lanes(kept, i)
        agrees = floats(words(seen) ^ flip) > none
        value = seen if mode & 2 else every(factors[i, 1]) * seen
        sum_ = select(agrees, sum_ + value, sum_)
    return sum_


@inlined
def _fill(limits: Array, ranks: Array, lasts: Array, position: int, entry: int, stop: int) -> int:
    """Fill the limits of all lanes for vectors from `entry` on; the entry up to which they hold, at most `stop`."""
    for row in range(lasts.size):
        for lane in range(STEP):
            limits[row * STEP + lane] = ranks[row, 1 if position + entry + ORDER[lane] <= lasts[row] else 0]
        ahead = lasts[row] + 1 - position - entry
        if ahead > 0:
            stop = min(stop, entry + max(1, ahead // STEP) * STEP)
    return stop
