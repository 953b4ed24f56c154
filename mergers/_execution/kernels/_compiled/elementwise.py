"""Weighted sums, and the count of what is not finite.

Every kernel takes addresses twice, as a table of two rows: for whole vectors of 64 entries, and for the padded copy of
what is left at the end (`_memory.Stretch`). `whole` counts the entries in vectors, `rest` those left.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .jit import kernel
from .lanes import STEP, every, magnitude, select, tally
from .memory import beyond, load, store

Array: TypeAlias = np.ndarray[Any, Any]


@kernel
def weighted(addresses: Array, codes: Array, coefficients: Array, whole: int, rest: int) -> int:
    """Write `sum coefficients[i] * input i`; the last row of the tables is the output. Counts what is not finite.

    One term after the other, each product and each sum rounded to float32.
    """
    terms = coefficients.size
    bad = 0
    for part in range(2 if rest else 1):
        first, last, valid = (whole, whole + STEP, rest) if part else (0, whole, STEP)
        at = addresses[part]
        for entry in range(first, last, STEP):
            sum_ = every(coefficients[0]) * load(at[0], codes[0], entry)
            for i in range(1, terms):
                sum_ = sum_ + every(coefficients[i]) * load(at[i], codes[i], entry)
            bad += store(at[terms], codes[terms], entry, sum_, valid)
    return bad


@kernel
def clipped(addresses: Array, codes: Array, scale: np.float32, limit: np.float32, whole: int, rest: int) -> int:
    """Write b moved by scale (x - b), at most by `limit`; columns b, x, output. Counts what is not finite."""
    bad = 0
    top, bottom = every(limit), every(-limit)
    for part in range(2 if rest else 1):
        first, last, valid = (whole, whole + STEP, rest) if part else (0, whole, STEP)
        at = addresses[part]
        for entry in range(first, last, STEP):
            base = load(at[0], codes[0], entry)
            move = (load(at[1], codes[1], entry) - base) * every(scale)
            move = select(move > top, top, select(move < bottom, bottom, move))
            bad += store(at[2], codes[2], entry, move + base, valid)
    return bad


@kernel
def touched(addresses: Array, codes: Array, epsilon: np.float32, scales: Array, whole: int, rest: int) -> int:
    """Write the merge of `_plan.Touched`; columns b, experts, output. Counts what is not finite."""
    bad, experts = 0, scales.size
    none, one = every(np.float32(0)), every(np.float32(1))
    for part in range(2 if rest else 1):
        first, last, valid = (whole, whole + STEP, rest) if part else (0, whole, STEP)
        at = addresses[part]
        for entry in range(first, last, STEP):
            base = load(at[0], codes[0], entry)
            sum_, alone, number = none, none, none
            for i in range(experts):
                delta = load(at[1 + i], codes[1 + i], entry) - base
                touches = magnitude(delta) > every(epsilon)
                delta = select(touches, delta, none)
                sum_ = sum_ + delta
                alone = alone + every(scales[i]) * delta
                number = number + select(touches, one, none)
            shared = sum_ / select(number > one, number, one)
            bad += store(at[1 + experts], codes[1 + experts], entry, select(number > one, shared, alone) + base, valid)
    return bad


@kernel
def nonfinite(addresses: Array, codes: Array, whole: int, rest: int) -> int:
    """How many entries of the only input are inf or nan."""
    bad = 0
    for part in range(2 if rest else 1):
        first, last = (whole, whole + STEP) if part else (0, whole)
        at = addresses[part]
        for entry in range(first, last, STEP):
            bad += tally(beyond(load(at[0], codes[0], entry), np.uint32(0x7F800000)))
    return bad
