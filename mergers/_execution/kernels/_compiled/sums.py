"""Float64 sums over entries, each lane for itself through a block of 65,536, lanes added by halves, blocks in order."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .jit import kernel
from .lanes import STEP, doubles, every, magnitude, select, total
from .memory import load, load_doubles, store_doubles
from .sparse import word

Array: TypeAlias = np.ndarray[Any, Any]

BLOCK = 1 << 16
PART = 512  # entries whose float64 values of all inputs stay in the first-level cache


@kernel
def l1(addresses: Array, codes: Array, whole: int, rest: int) -> float:
    """The sum of |x - b| for columns b, x."""
    sum_ = 0.0
    stop = whole + STEP if rest else whole
    for block in range(0, stop, BLOCK):
        lanes = every(0.0)
        for entry in range(block, min(stop, block + BLOCK), STEP):
            at = addresses[0] if entry < whole else addresses[1]
            lanes = lanes + doubles(magnitude(load(at[1], codes[1], entry) - load(at[0], codes[0], entry)))
        sum_ += total(lanes)
    return sum_


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
    chance: int,
) -> float:
    """The sum of |x - b| over entries whose random bits (the word's upper half if `high`) are below `chance`."""
    sum_ = 0.0
    stop = whole + STEP if rest else whole
    for block in range(0, stop, BLOCK):
        lanes = every(0.0)
        for entry in range(block, min(stop, block + BLOCK), STEP):
            at = addresses[0] if entry < whole else addresses[1]
            size = magnitude(load(at[1], codes[1], entry) - load(at[0], codes[0], entry))
            bits = word(position + entry, key, key2) >> every(np.uint32(16 * high))
            keep = (bits & every(np.uint32(0xFFFF))) < every(np.uint32(chance))
            lanes = lanes + doubles(select(keep, size, every(np.float32(0))))
        sum_ += total(lanes)
    return sum_


@kernel
def gram(addresses: Array, codes: Array, whole: int, rest: int, deltas: bool, scratch: Array) -> Array:
    """Dot products of all columns; of their differences from the first one, which is left out, if `deltas`.

    `scratch` holds `PART` float64 per vector and 64 per pair of vectors.
    """
    skip = 1 if deltas else 0
    count = codes.size - skip
    values_at = np.int64(scratch.ctypes.data)
    sums_at = values_at + 8 * count * PART
    result = np.zeros((count, count), np.float64)
    stop = whole + STEP if rest else whole
    for block in range(0, stop, BLOCK):
        for pair in range(count * count):
            store_doubles(sums_at, pair, every(0.0))
        end = min(stop, block + BLOCK)
        for part in range(block, end, PART):
            vectors = (min(end, part + PART) - part) // STEP
            for step in range(vectors):
                entry = part + step * STEP
                at = addresses[0] if entry < whole else addresses[1]
                base = load(at[0], codes[0], entry)
                for i in range(count):
                    x = load(at[i + skip], codes[i + skip], entry)
                    store_doubles(values_at, i * (PART // STEP) + step, doubles(x - base if deltas else x))
            for i in range(count):
                for j in range(i, count):
                    lanes = load_doubles(sums_at, i * count + j)
                    for step in range(vectors):  # the product of two float32 numbers is exact
                        left = load_doubles(values_at, i * (PART // STEP) + step)
                        lanes = lanes + left * load_doubles(values_at, j * (PART // STEP) + step)
                    store_doubles(sums_at, i * count + j, lanes)
        for i in range(count):
            for j in range(i, count):
                result[i, j] += total(load_doubles(sums_at, i * count + j))
    for i in range(count):
        for j in range(i):
            result[i, j] = result[j, i]
    return result
