"""Between memory and vectors: float32, bfloat16 and float16 in, float32 inside, one rounding out.

Addresses are plain int64 and offsets count entries. Nothing needs more alignment than an entry has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import inlined, instruction
from .lanes import (
    HALF,
    ORDER,
    STEP,
    WORD,
    D,
    F,
    Flags,
    Floats,
    W,
    anywhere,
    every,
    floats,
    lanes,
    magnitude,
    places,
    select,
    shuffled,
    tally,
    words,
)

_PAIRS = STEP // 2
_BACK = tuple(lane // 2 + lane % 2 * _PAIRS for lane in range(STEP))
_INT64, _BYTE = types.int64, ir.IntType(8)

AHEAD = 1024
"""Bytes that are asked for before they are read: some times what is read while memory answers."""


@inlined
def load(address: int, code: int, entry: int) -> Floats:
    """64 entries from `entry` on, of type `code`: 0 float32, 1 bfloat16, 2 float16."""
    if code == 1:
        return floats(_load_upper(address, entry))
    if code == 0:
        return load_float32(address, entry)
    return _load_float16(address, entry)


@inlined
def store(address: int, code: int, entry: int, x: Floats, valid: int) -> int:
    """Write 64 entries, rounded to the nearest number of type `code`, ties to even; a nan stays one.

    Returns:
        How many of the first `valid` are written as inf or nan.
    """
    limit = np.uint32(0x7F800000)  # infinity
    if code == 1:
        limit = np.uint32(0x7F7F8000)  # half a unit above the largest bfloat16
    elif code == 2:
        limit = np.uint32(0x477FF000)  # 65520, half a unit above the largest float16
    flags = beyond(x, limit)
    bad = 0
    if anywhere(flags):
        bad = tally(flags & (places() < every(np.uint32(valid))))
        x = select(x == x, x, floats(every(np.uint32(0x7FC00000))))  # others may lose their payload, and be inf
    if code == 1:
        bits = words(x)
        even = (bits >> every(np.uint32(16))) & every(np.uint32(1))
        _store_upper(address, entry, bits + every(np.uint32(0x7FFF)) + even)
    elif code == 0:
        store_float32(address, entry, x)
    else:
        _store_float16(address, entry, x)
    return bad


@inlined
def beyond(x: Floats, limit: np.uint32) -> Flags:
    """Where |x| is not less than the float32 number of bits `limit`; nan is not."""
    return words(magnitude(x)) >= every(limit)


def _pointer(builder: ir.IRBuilder, address: Any, entry: Any, bits: int, target: ir.Type) -> Any:
    offset = builder.mul(entry, ir.Constant(entry.type, bits // 8))
    return builder.inttoptr(builder.add(address, offset), target.as_pointer())


def _read(builder: ir.IRBuilder, address: Any, entry: Any, bits: int, target: ir.Type) -> Any:
    value = builder.load(_pointer(builder, address, entry, bits, target))
    value.align = bits // 8
    return value


def _write(builder: ir.IRBuilder, address: Any, entry: Any, bits: int, value: Any) -> None:
    builder.store(value, _pointer(builder, address, entry, bits, value.type)).align = bits // 8


def _fetch(builder: ir.IRBuilder, address: Any, entry: Any, bits: int) -> None:
    """Ask for the memory that a later step will read: processors' own guesses end at each page of 4 KiB."""
    first = _pointer(builder, address, entry, bits, _BYTE)
    for line in range(0, STEP * bits // 8, 64):
        _prefetch(builder, builder.gep(first, [ir.Constant(ir.IntType(64), AHEAD + line)]), write=False)


def _prefetch(builder: ir.IRBuilder, place: Any, *, write: bool) -> None:
    declare: Any = cgutils.get_or_insert_function  # numba has no types for it
    signature = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), WORD, WORD, WORD])
    function = declare(builder.module, signature, "llvm.prefetch.p0")
    # Data, into the second-level cache: tensors tend to begin at the same place within a page, and then their lines
    # compete for the same few places of the first.
    builder.call(function, [place, WORD(int(write)), WORD(2), WORD(1)])


@instruction
def expect(context: Any, address: Any) -> Any:
    """Ask for 128 bytes that will be written soon."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        first = builder.inttoptr(values[0], _BYTE.as_pointer())
        for line in (0, 64):
            _prefetch(builder, builder.gep(first, [ir.Constant(ir.IntType(64), line)]), write=True)
        return context.get_dummy_value()

    return types.none(_INT64), emit


def _split(builder: ir.IRBuilder, pairs: Any, bits: int) -> tuple[Any, Any]:
    """Low and high half of every integer of `pairs`, each left where it lies: (shifted up, masked)."""
    element, count = pairs.type.element, pairs.type.count
    low = builder.shl(pairs, lanes(element, [bits] * count))
    return low, builder.and_(pairs, lanes(element, [(1 << bits) - 1 << bits] * count))


@instruction
def _load_upper(context: Any, address: Any, entry: Any) -> Any:
    """64 16-bit entries as the upper halves of words."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        pairs = _read(builder, values[0], values[1], 16, ir.VectorType(WORD, _PAIRS))
        _fetch(builder, values[0], values[1], 16)
        return builder.shuffle_vector(*_split(builder, pairs, 16), lanes(WORD, [*range(STEP)]))

    return W(_INT64, _INT64), emit


@instruction
def _store_upper(context: Any, address: Any, entry: Any, x: Any) -> Any:
    """Write the upper halves of words as 64 16-bit entries."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        address, entry, value = values
        low = shuffled(builder, value, range(_PAIRS))
        high = shuffled(builder, value, range(_PAIRS, STEP))
        low = builder.lshr(low, lanes(WORD, [16] * _PAIRS))
        high = builder.and_(high, lanes(WORD, [0xFFFF0000] * _PAIRS))
        _write(builder, address, entry, 16, builder.or_(low, high))
        return context.get_dummy_value()

    return types.none(_INT64, _INT64, W), emit


@instruction
def load_float32(context: Any, address: Any, entry: Any) -> Any:
    """64 float32 entries."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        _fetch(builder, values[0], values[1], 32)
        return shuffled(builder, _read(builder, values[0], values[1], 32, F.vector), ORDER)

    return F(_INT64, _INT64), emit


@instruction
def store_float32(context: Any, address: Any, entry: Any, x: Any) -> Any:
    """Write 64 float32 entries."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        address, entry, value = values
        _write(builder, address, entry, 32, shuffled(builder, value, _BACK))
        return context.get_dummy_value()

    return types.none(_INT64, _INT64, F), emit


@instruction
def _load_float16(context: Any, address: Any, entry: Any) -> Any:
    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        _fetch(builder, values[0], values[1], 16)
        halves = _read(builder, values[0], values[1], 16, ir.VectorType(HALF, STEP))
        return shuffled(builder, builder.fpext(halves, F.vector), ORDER)

    return F(_INT64, _INT64), emit


@instruction
def _store_float16(context: Any, address: Any, entry: Any, x: Any) -> Any:
    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        address, entry, value = values
        halves = builder.fptrunc(shuffled(builder, value, _BACK), ir.VectorType(HALF, STEP))
        _write(builder, address, entry, 16, halves)
        return context.get_dummy_value()

    return types.none(_INT64, _INT64, F), emit


@instruction
def load_bytes(context: Any, address: Any, entry: Any) -> Any:
    """64 unsigned bytes as words."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        pair = ir.IntType(16)
        _fetch(builder, values[0], values[1], 8)
        pairs = _read(builder, values[0], values[1], 8, ir.VectorType(pair, _PAIRS))
        low = builder.and_(pairs, lanes(pair, [0xFF] * _PAIRS))
        high = builder.lshr(pairs, lanes(pair, [8] * _PAIRS))
        return builder.zext(builder.shuffle_vector(low, high, lanes(WORD, [*range(STEP)])), W.vector)

    return W(_INT64, _INT64), emit


@instruction
def load_lanes(context: Any, address: Any, row: Any) -> Any:
    """Row `row` of a float32 table of 64 columns, as it lies."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        address, row = values
        return _read(builder, address, builder.mul(row, ir.Constant(row.type, STEP)), 32, F.vector)

    return F(_INT64, _INT64), emit


@instruction
def store_lanes(context: Any, address: Any, row: Any, x: Any) -> Any:
    """Write row `row` of a float32 table of 64 columns."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        address, row, value = values
        _write(builder, address, builder.mul(row, ir.Constant(row.type, STEP)), 32, value)
        return context.get_dummy_value()

    return types.none(_INT64, _INT64, F), emit


@instruction
def load_doubles(context: Any, address: Any, row: Any) -> Any:
    """Row `row` of a float64 table of 64 columns, as it lies."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        address, row = values
        return _read(builder, address, builder.mul(row, ir.Constant(row.type, STEP)), 64, D.vector)

    return D(_INT64, _INT64), emit


@instruction
def store_doubles(context: Any, address: Any, row: Any, x: Any) -> Any:
    """Write row `row` of a float64 table of 64 columns."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        address, row, value = values
        _write(builder, address, builder.mul(row, ir.Constant(row.type, STEP)), 64, value)
        return context.get_dummy_value()

    return types.none(_INT64, _INT64, D), emit
