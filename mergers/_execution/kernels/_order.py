"""From counts of bit patterns to ranks and exact sums. See `_compiled.order`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._plan import NOTHING_YET, Rank
from . import _bracket
from ._raw import STEP, Raw, Stretch

Integers = np.ndarray[Any, np.dtype[np.int64]]

_SMALL = 1 << 16  # entries; counting takes some milliseconds more than sorting, and less per entry
_UPPER = 1 << 15
_EXPONENTS, _PER_EXPONENT = 256, 128  # upper halves: 8 bits of exponent, 7 of mantissa


def ranks(base: Raw, expert: Raw, counts: Sequence[int]) -> tuple[tuple[Rank, float], ...]:
    """Where the first `count` entries of |x - b| end, for each of `counts`, and the sum of |x - b| up to there.

    Args:
        base: finite numbers.
        expert: finite numbers.
        counts: each at most the number of entries; 0 or less: nothing.
    """
    assert all(count <= expert.size for count in counts), "a rank within the tensor"
    wanted = sorted({count for count in counts if count > 0})
    if not wanted:
        return ((NOTHING_YET, 0.0),) * len(counts)
    stretch = Stretch([base, expert], 0, expert.size)
    found = dict(zip(wanted, (_sorted if expert.size <= _SMALL else _counted)(stretch, wanted), strict=True))
    return tuple(found.get(count, (NOTHING_YET, 0.0)) for count in counts)


def rank(base: Raw, expert: Raw, count: int) -> Rank:
    """As `ranks` of one count, without the sum; several times faster."""
    if count <= 0 or expert.size <= _SMALL:
        return ranks(base, expert, (count,))[0][0]
    return _bracket.rank(base, expert, count) or ranks(base, expert, (count,))[0][0]


def _sorted(stretch: Stretch, wanted: Sequence[int]) -> list[tuple[Rank, float]]:
    """For few entries."""
    from ._compiled import order

    bits = np.empty(stretch.whole + STEP, dtype=np.uint32)
    order.all_patterns(*stretch.tables, bits)
    bits = bits[: stretch.whole + stretch.rest]
    descending = np.sort(bits)[::-1]
    sums = np.cumsum(descending.view(np.float32), dtype=np.float64)
    result = []
    for count in wanted:
        end = descending[count - 1]
        ties = count - int(np.searchsorted(-descending.astype(np.int64), -int(end)))
        last = int(np.flatnonzero(bits == end)[ties - 1])
        result.append((Rank(float(end.view(np.float32)), last), float(sums[count - 1])))
    return result


def _counted(stretch: Stretch, wanted: Sequence[int]) -> list[tuple[Rank, float]]:
    """Three passes over the tensors, however many counts there are; sums are exact, rounded once.

    Passes: upper halves of the bits; lower halves, where a count ends within an upper half; positions of entries that
    equal a threshold.
    """
    from ._compiled import order

    numbers, lower_sums = order.upper(*stretch.tables)
    upto = np.cumsum(numbers[::-1])  # entries in the highest 1, 2, .. upper halves
    highest = np.searchsorted(upto, wanted)
    uppers = _UPPER - 1 - highest
    distinct, rows = np.unique(uppers, return_inverse=True)
    slots = np.zeros(_UPPER, dtype=np.uint16)
    slots[distinct] = 2 * np.arange(len(distinct)) + 1
    lowers = order.lower(*stretch.tables, slots, len(distinct))
    left = np.array(wanted, dtype=np.int64) - (upto[highest] - numbers[uppers])
    ends = order.ends(lowers, rows, left)
    above = _sums_above(numbers, lower_sums)
    patterns = (uppers << 16 | ends[:, 0]).astype(np.uint32)
    places = _places(stretch, patterns, ends[:, 1])
    result = []
    for i, upper in enumerate(uppers.tolist()):
        lower, ties, sum_ = ends[i].tolist()
        total = above(upper) + _units(upper, int(left[i]), sum_ + ties * lower)
        result.append((Rank(float(patterns[i].view(np.float32)), int(places[i])), total / (1 << 149)))
    return result


def _places(stretch: Stretch, patterns: np.ndarray[Any, np.dtype[np.uint32]], ties: Integers) -> Integers:
    """The positions of the entries of these patterns that are the `ties`-th to have it."""
    from ._compiled import order

    by_pattern = np.lexsort((ties, patterns))
    wanted = patterns[by_pattern]
    factor, spots = _perfect_hash(wanted, order.HASH)
    rows = np.zeros(1 << order.HASH, dtype=np.int16)
    rows[spots[::-1]] = np.arange(len(wanted))[::-1]  # the first of equals is written last
    places = np.empty_like(ties)
    places[by_pattern] = order.positions(*stretch.tables, factor, rows, wanted, ties[by_pattern])
    return places


def _perfect_hash(patterns: np.ndarray[Any, np.dtype[np.uint32]], bits: int) -> tuple[np.uint32, Integers]:
    """A factor whose products with different patterns have different upper `bits`, and these bits."""
    distinct = len(np.unique(patterns))
    generator = np.random.default_rng(0)
    while True:
        factor = np.uint32(generator.integers(1 << 32) | 1)
        spots = (patterns * factor >> np.uint32(32 - bits)).astype(np.int64)
        if len(np.unique(spots)) == distinct:
            return factor, spots


def _units(upper: int, number: int, lower_sum: int) -> int:
    """The sum of `number` entries of one upper half in units of the smallest float32, 2^-149."""
    exponent, mantissa = divmod(upper, _PER_EXPONENT)
    start = (mantissa | (_PER_EXPONENT if exponent else 0)) << 16
    return number * start + lower_sum << max(exponent - 1, 0)


def _sums_above(numbers: Integers, lower_sums: Integers) -> Any:
    """Upper half -> exact sum of all entries with higher ones, in units of 2^-149."""
    halves = np.arange(_UPPER)
    starts = (halves % _PER_EXPONENT + np.where(halves >= _PER_EXPONENT, _PER_EXPONENT, 0)) << 16
    scaled = (numbers * starts + lower_sums).reshape(_EXPONENTS, _PER_EXPONENT)
    above = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1] - scaled
    per_exponent = [int(x) << max(exponent - 1, 0) for exponent, x in enumerate(scaled.sum(axis=1))]
    higher = [0] * (_EXPONENTS + 1)
    for exponent in reversed(range(_EXPONENTS)):
        higher[exponent] = higher[exponent + 1] + per_exponent[exponent]

    def of(upper: int) -> int:
        exponent, mantissa = divmod(upper, _PER_EXPONENT)
        return higher[exponent + 1] + (int(above[exponent, mantissa]) << max(exponent - 1, 0))

    return of
