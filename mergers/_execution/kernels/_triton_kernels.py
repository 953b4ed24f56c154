"""The two Triton kernels: one pass over the inputs, one program per block of entries, experts unrolled at compile time.

The arithmetic is that of `blocks`, operation by operation. It takes two things to keep it so: kernels are launched with
`enable_fp_fusion=False`, which forbids making one rounding of a product and a sum; and division is `div_rn`, since
Triton's `/` of float32 is approximate.

What decides which code runs (kinds of masks, types, the number of experts) is constexpr. Numbers that change from merge
to merge never recompile: Triton leaves floats alone but compiles anew for an integer argument that is 1 or a multiple
of 16, so integers are read from a table in the device's memory.

`start` is a 64-bit scalar and `lane` a 32-bit vector: tensors of more than 2^31 entries cost little 64-bit arithmetic.
"""
# mypy: ignore-errors
# Kernels are written in Triton's own language, which only looks like Python: its types are not Python's.

from __future__ import annotations

import triton
import triton.language as tl

LAST_ABOVE, LAST_UPTO, KEY0, KEY1, THRESHOLD, COLUMNS = (tl.constexpr(i) for i in range(6))
"""Columns of the table of integers, and their number."""


@triton.jit
def weighted_kernel(inputs, coefficients, out, broken, count, BLOCK: tl.constexpr):
    """Write `sum_i coefficients[i] * inputs[i]` for the entries of one block.

    Args:
        inputs: tuple of pointers.
        coefficients: tuple of float32 scalars.
        out: pointer.
        broken: pointer to an int64; the number of entries written that are not finite is added.
        count: entries of the tensors.
        BLOCK: entries per program.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = start + lane < count
    total = coefficients[0] * _load(inputs[0], start, lane, inside)
    for i in tl.static_range(1, len(inputs)):
        total += coefficients[i] * _load(inputs[i], start, lane, inside)
    _store(out, total, broken, start, lane, inside)


@triton.jit
def sparse_kernel(
    base,
    experts,
    keys,
    votes,
    factors,
    weights,
    above,
    upto,
    table,
    lambda_,
    out,
    broken,
    origin,
    count,
    KINDS: tl.constexpr,
    HIGH: tl.constexpr,
    FRESH: tl.constexpr,
    CONSENSUS: tl.constexpr,
    WEIGHTED_ELECTION: tl.constexpr,
    DIVIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the merge of masked differences (`mergers._plan.Sparse`) for the entries of one block.

    Tuples hold one item per expert. Scalars are float32.

    Args:
        base: pointer.
        experts: pointers.
        keys: pointers to uint8, kept where 0; None unless ranked.
        votes: factor of the difference in an election without weights: scale.
        factors: of the difference in the sum: scale times weight.
        weights: of the experts.
        above: magnitude of the last of the first entries that a band leaves out.
        upto: magnitude of the last entry that a band keeps.
        table: pointer to int64, a row per expert. LAST_*: position in the whole tensor of the entry whose magnitude is
            in `above` or `upto`. KEY*: of the random words. THRESHOLD: kept are random bits below it. None if there
            are neither bands nor random masks.
        lambda_: of the merged difference.
        out: pointer.
        broken: pointer to an int64; the number of entries written that are not finite is added.
        origin: position in the whole tensor of the first entry, a multiple of 2^32.
        count: entries of this launch, at most 2^32.
        KINDS: of masks: everything, band, first (a band that begins with the largest entry), random, ranked.
        HIGH: whether the expert's random bits are the high half of the word that it shares with another expert.
        FRESH: whether that word is another than the one computed last.
        CONSENSUS: whether signs are elected.
        WEIGHTED_ELECTION: whether weights count in it.
        DIVIDE: as `Sparse.divide`.
        BLOCK: entries per program.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = start + lane < count
    b = _load(base, start, lane, inside)
    total = tl.full((BLOCK,), 0.0, tl.float32)
    plus, minus, plus_share, minus_share = total, total, total, total
    for i in tl.static_range(len(experts)):
        row = i * COLUMNS
        d = _load(experts[i], start, lane, inside) - b
        if KINDS[i] == "first" or KINDS[i] == "band":
            kept = _first(d, upto[i], tl.load(table + row + LAST_UPTO) - origin - start, lane)
            if KINDS[i] == "band":
                kept &= ~_first(d, above[i], tl.load(table + row + LAST_ABOVE) - origin - start, lane)
            d = tl.where(kept, d, 0.0)
        elif KINDS[i] == "random":
            if FRESH[i]:
                word = _word(start, lane, tl.load(table + row + KEY0), tl.load(table + row + KEY1))
            bits = (word >> 16) if HIGH[i] else (word & 0xFFFF)
            d = tl.where(bits < tl.load(table + row + THRESHOLD).to(tl.uint32), d, 0.0)
        elif KINDS[i] == "ranked":
            d = tl.where(tl.load(keys[i] + start + lane, mask=inside, other=0) == 0, d, 0.0)
        value = factors[i] * d
        if not CONSENSUS:
            total += value
        else:
            vote = value if WEIGHTED_ELECTION else votes[i] * d
            total += vote
            plus += tl.where(vote > 0, value, 0.0)
            minus += tl.where(vote < 0, value, 0.0)
            if DIVIDE != "no":
                share = weights[i] if DIVIDE == "weights" else 1.0
                plus_share += tl.where(vote > 0, share, 0.0)
                minus_share += tl.where(vote < 0, share, 0.0)
    result = total
    if CONSENSUS:
        result = tl.where(total >= 0, plus, minus)
        if DIVIDE != "no":
            share = tl.where(total >= 0, plus_share, minus_share)
            result = tl.div_rn(result, tl.where(share == 0, 1.0, share))
        result = tl.where(total == total, result, total)
    _store(out, b + lambda_ * result, broken, start, lane, inside)


@triton.jit
def _load(pointer, start, lane, inside):
    return tl.load(pointer + start + lane, mask=inside, other=0).to(tl.float32)


@triton.jit
def _store(out, result, broken, start, lane, inside):
    """Round and write a block; count its entries that are then not finite."""
    rounded = result.to(out.dtype.element_ty)
    tl.store(out + start + lane, rounded, mask=inside)
    finite = tl.abs(rounded.to(tl.float32)) < float("inf")
    tl.atomic_add(broken + lane * 0, 1, mask=inside & ~finite, sem="relaxed")


@triton.jit
def _first(d, threshold, last, lane):
    """Which entries belong to the first ones that end with magnitude `threshold` at entry `last` of the block."""
    magnitude = tl.abs(d)
    return (magnitude > threshold) | ((magnitude == threshold) & (lane <= last))


@triton.jit
def _word(start, lane, key0, key1):
    """The 32 random bits of each entry (`mergers._maths.draw`)."""
    h = (start.to(tl.uint32) + lane.to(tl.uint32)) ^ key0.to(tl.uint32)
    h ^= h >> 17
    h *= 0xED5AD4BB
    h ^= h >> 11
    h += key1.to(tl.uint32)
    h *= 0xAC4C1B51
    h ^= h >> 15
    h *= 0x31848BAB
    h ^= h >> 14
    return h
