"""Vectors of 64 entries as values inside kernels: `a + b` on two of them is one operation on all 64.

Kernels spell out what every vector instruction does, lane by lane, instead of hoping for the compiler to find it. LLVM
cuts the 64 lanes into the registers of the processor (four of AVX-512, eight of AVX2, sixteen of NEON). No operation
depends on that cut, so results are the same everywhere.

The lanes of a vector do not lie in the order of memory: first come the 32 even entries, then the 32 odd ones. Two
neighbours of a 16-bit type share a 32-bit word, and a shift and a mask pull them apart faster than any shuffle.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, register_model

from .jit import instruction

STEP = 64
"""Entries per vector."""

ORDER = (*range(0, STEP, 2), *range(1, STEP, 2))
"""The entry that each lane holds, counted from the vector's first."""

Floats: TypeAlias = Any
"""64 float32."""
Words: TypeAlias = Any
"""64 unsigned 32-bit integers."""
Doubles: TypeAlias = Any
"""64 float64."""
Flags: TypeAlias = Any
"""64 truth values."""
Emit: TypeAlias = Callable[..., Any]

FLOAT, WORD, HALF, DOUBLE = ir.FloatType(), ir.IntType(32), ir.HalfType(), ir.DoubleType()


class _Lanes(types.Type):
    """numba's name for a vector of 64 of one LLVM type."""

    def __init__(self, element: ir.Type) -> None:
        self.vector = ir.VectorType(element, STEP)
        super().__init__(name=f"Lanes({element})")


class _Model(models.PrimitiveModel):
    def __init__(self, manager: object, lanes: _Lanes) -> None:
        super().__init__(manager, lanes, lanes.vector)  # type: ignore[no-untyped-call]  # numba has no types for it


register_model(_Lanes)(_Model)

F, W, D, B = _Lanes(FLOAT), _Lanes(WORD), _Lanes(DOUBLE), _Lanes(ir.IntType(1))


_signature: Any = signature  # numba has no types for these
_infer: Any = infer_global
_lower: Any = lower_builtin


def _define(symbol: Callable[..., object], table: dict[_Lanes, tuple[_Lanes, Emit]]) -> None:
    """Give `symbol` a meaning between two vectors of one kind: kind -> (kind of the result, LLVM instruction)."""

    class Template(AbstractTemplate):
        def generic(self, arguments: tuple[types.Type, ...], keywords: object) -> object:
            left, *rest = arguments
            return _signature(table[left][0], left, left) if rest == [left] and left in table else None

    def lower(context: object, builder: ir.IRBuilder, signed: Any, values: tuple[Any, ...]) -> Any:
        return table[signed.args[0]][1](builder, *values)

    _infer(symbol)(Template)
    _lower(symbol, _Lanes, _Lanes)(lower)


_B = ir.IRBuilder
_define(operator.add, {F: (F, _B.fadd), W: (W, _B.add), D: (D, _B.fadd)})
_define(operator.sub, {F: (F, _B.fsub), W: (W, _B.sub)})
_define(operator.mul, {F: (F, _B.fmul), W: (W, _B.mul), D: (D, _B.fmul)})
_define(operator.truediv, {F: (F, _B.fdiv)})
_define(operator.and_, {W: (W, _B.and_), B: (B, _B.and_)})
_define(operator.or_, {W: (W, _B.or_), B: (B, _B.or_)})
_define(operator.xor, {W: (W, _B.xor)})
_define(operator.lshift, {W: (W, _B.shl)})
_define(operator.rshift, {W: (W, _B.lshr)})
for _symbol, _sign in ((operator.gt, ">"), (operator.ge, ">="), (operator.lt, "<"), (operator.le, "<=")):
    _define(
        _symbol,
        {
            F: (B, lambda b, x, y, sign=_sign: b.fcmp_ordered(sign, x, y)),
            W: (B, lambda b, x, y, sign=_sign: b.icmp_unsigned(sign, x, y)),
        },
    )
_define(operator.ne, {F: (B, lambda b, x, y: b.fcmp_unordered("!=", x, y))})
_define(operator.eq, {F: (B, lambda b, x, y: b.fcmp_ordered("==", x, y))})


def lanes(element: ir.Type, values: tuple[int, ...] | list[int]) -> ir.Constant:
    """A constant vector."""
    return ir.Constant(ir.VectorType(element, len(values)), list(values))


def shuffled(builder: ir.IRBuilder, value: Any, order: tuple[int, ...] | range) -> Any:
    """Lane i of the result is lane order[i] of `value`."""
    return builder.shuffle_vector(value, value, lanes(WORD, [*order]))


@instruction
def every(context: Any, x: Any) -> Any:
    """All lanes hold the scalar `x`: float32, float64 or uint32."""
    kind = {types.float32: F, types.uint32: W, types.float64: D}[x]

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        empty = ir.Constant(kind.vector, ir.Undefined)
        return shuffled(builder, builder.insert_element(empty, values[0], ir.Constant(WORD, 0)), (0,) * STEP)

    return kind(x), emit


@instruction
def places(context: Any) -> Any:
    """The entry that each lane holds, as `Words`."""
    return W(), lambda context, builder, signed, values: lanes(WORD, ORDER)


@instruction
def select(context: Any, flags: Any, x: Any, y: Any) -> Any:
    """`x` where the flag is set, else `y`."""
    return x(flags, x, y), lambda context, builder, signed, values: builder.select(*values)


@instruction
def words(context: Any, x: Any) -> Any:
    """The bits of float32 values."""
    return W(F), lambda context, builder, signed, values: builder.bitcast(values[0], W.vector)


@instruction
def floats(context: Any, x: Any) -> Any:
    """The float32 values that have these bits."""
    return F(W), lambda context, builder, signed, values: builder.bitcast(values[0], F.vector)


@instruction
def magnitude(context: Any, x: Any) -> Any:
    """|x| of float32 values."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        bits = builder.bitcast(values[0], W.vector)
        return builder.bitcast(builder.and_(bits, lanes(WORD, [0x7FFFFFFF] * STEP)), F.vector)

    return F(F), emit


@instruction
def doubles(context: Any, x: Any) -> Any:
    """Float32 values as float64."""
    return D(F), lambda context, builder, signed, values: builder.fpext(values[0], D.vector)


@instruction
def total(context: Any, x: Any) -> Any:
    """The sum of 64 float64, by halves: always in the same order."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        value, count = values[0], STEP
        while count > 1:
            count //= 2
            value = builder.fadd(
                shuffled(builder, value, range(count)), shuffled(builder, value, range(count, 2 * count))
            )
        return builder.extract_element(value, ir.Constant(WORD, 0))

    return types.float64(D), emit


@instruction
def tally(context: Any, flags: Any) -> Any:
    """How many flags are set, as int64."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        return builder.ctpop(builder.bitcast(values[0], ir.IntType(STEP)))

    return types.int64(B), emit


@instruction
def anywhere(context: Any, flags: Any) -> Any:
    """Whether any flag is set."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        bits = builder.bitcast(values[0], ir.IntType(STEP))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(B), emit


@instruction
def bitmap(context: Any, flags: Any) -> Any:
    """A bit for each lane's flag, as int64."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(STEP))

    return types.int64(B), emit


@instruction
def first_bit(context: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set in an int64 that is not 0."""

    def emit(context: Any, builder: ir.IRBuilder, signed: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), emit
