"""One exact rank from a sample and one look at all entries; see `_compiled.bracket`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._plan import Rank
from ._raw import STEP, Raw, Stretch, scratch

_SMALLEST, _LARGEST = 1 << 15, 1 << 21  # entries of a sample
_SHARE = 64  # of all entries, one is in the sample
_DOUBT = 4.5  # standard errors of the sample's quantile, at twice the variance: four entries of a vector are kin
_FEW = 16  # entries of the sample; near its ends the quantile is not normal


def rank(base: Raw, expert: Raw, count: int) -> Rank | None:
    """Where the first `count` entries of |x - b| end; None where the sample has misled.

    Args:
        base: finite numbers.
        expert: finite numbers; more than 2^16 entries.
        count: at least 1, at most the number of entries.
    """
    from ._compiled import bracket as compiled

    stretch = Stretch([base, expert], 0, expert.size)
    drawn = _sample(stretch)
    share = 1 - count / expert.size
    error = _DOUBT * (2 * share * (1 - share) / len(drawn)) ** 0.5 + _FEW / len(drawn)
    # What lies beyond the sample's ends is collected whole: few entries are larger or smaller than all of a sample.
    first, last = (int(np.floor((share + side) * len(drawn))) for side in (-error, error))
    drawn.partition([x for x in (first, last) if 0 <= x < len(drawn)])
    high = drawn[last] if last < len(drawn) else np.float32(np.inf)
    low = drawn[first] if first >= 0 else np.float32(-1.0)
    room = int(4 * error * expert.size) + compiled.PART
    equal = np.zeros((-(-expert.size // compiled.PART), 2), dtype=np.int32)
    sizes, entries = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.int64)
    above, found = compiled.around(*stretch.tables, high, low, equal, sizes, entries, scratch(STEP, np.float32))
    highs, lows = (int(x) for x in equal.sum(axis=0, dtype=np.int64))
    left = count - above
    if found > room or left <= 0:
        return None
    if left <= highs:
        return _nth(stretch, high, equal[:, 0], left)
    left -= highs
    if left <= found:
        return _nth_of(sizes[:found], entries[:found], left)
    left -= found
    return _nth(stretch, low, equal[:, 1], left) if low < high and left <= lows else None


def _sample(stretch: Stretch) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Magnitudes from all over the tensor, in no order."""
    from ._compiled import bracket as compiled

    vectors = stretch.whole // STEP
    wanted = min(max(stretch.whole // _SHARE, _SMALLEST), _LARGEST, 4 * vectors)
    stride = max(1, 4 * vectors // wanted)
    drawn = np.empty(4 * -(-vectors // stride), dtype=np.float32)
    compiled.sample(stretch.addresses, stretch.codes, stretch.whole, stride, drawn, scratch(STEP, np.float32))
    return drawn


def _nth(stretch: Stretch, size: np.float32, equal: np.ndarray[Any, np.dtype[np.int32]], nth: int) -> Rank:
    """The `nth` entry (from 1) of magnitude `size`, of which each part has `equal` ones."""
    from ._compiled import bracket as compiled

    upto = np.cumsum(equal, dtype=np.int64)
    part = int(np.searchsorted(upto, nth))
    nth -= int(upto[part - 1]) if part else 0
    last = compiled.place(*stretch.tables, part * compiled.PART, size, nth)
    assert last >= 0, "what was counted is there"
    return Rank(float(size), last)


def _nth_of(
    sizes: np.ndarray[Any, np.dtype[np.float32]], entries: np.ndarray[Any, np.dtype[np.int64]], nth: int
) -> Rank:
    """The `nth` (from 1) of collected entries, by magnitude descending and position ascending."""
    size = np.partition(sizes, len(sizes) - nth)[len(sizes) - nth]
    ties = nth - int((sizes > size).sum())
    equal = entries[sizes == size]
    return Rank(float(size), int(np.partition(equal, ties - 1)[ties - 1]))
