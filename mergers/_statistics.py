"""What a method's `plan` may ask about a whole tensor: dot products, thresholds, sums. Kept between candidates.

A search asks the same questions thousands of times with other coefficients, so answers are remembered for each tensor.
Densities on the grid of multiples of 1/64 are answered together: one look at a difference gives its 65 exact thresholds
and kept sums, and the search proposes densities on that grid (docs/decisions.md). Every other density is computed when
it is asked for.

Sums are float64, over fixed blocks in order, so that no answer depends on the number of threads.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ._backend import backend
from ._plan import NOTHING_YET, Band, Everything, Mask, Nothing, Random, Rank, Ranked
from ._threads import in_threads

T = TypeVar("T")

GRID = 64
"""Densities j / GRID are answered together."""

_BLOCK = 1 << 16
_STRETCH = 1 << 22  # entries whose sums one thread takes; fixed, because the sums of stretches are added in order
_KEPT_PER_EXPERT = 1024


@dataclass(frozen=True)
class Inputs:
    """The tensors of one part: of one shape, flattened, as stored (float32, bfloat16 or float16), on one device.

    Attributes:
        base: None where the part has none.
        experts: in merge order.
        shape: before flattening.
    """

    base: Tensor | None
    experts: tuple[Tensor, ...]
    shape: tuple[int, ...]


class Memory:
    """Answers about one tensor, the oldest forgotten first.

    Attributes:
        tables: whether whole grids are worth computing: there will be more than one candidate.
        finite: whether the inputs have been seen to hold neither NaN nor infinity.
        computed: how many answers had to be computed.
        stale: whether the last round of questions to all experts met one that was not known.
    """

    def __init__(self, *, tables: bool) -> None:
        self.tables = tables
        self.finite = False
        self.stale = True
        self.computed = 0
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, answer: Callable[[], Any], experts: int = 1) -> Any:
        """The remembered answer to `key`, else that of `answer`."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        value = answer()
        self.put(key, value, experts)
        return value

    def put(self, key: Hashable, value: Any, experts: int = 1) -> None:
        """Remember `value`."""
        with self._lock:
            self.computed += 1
            self._answers[key] = value
            while len(self._answers) > _KEPT_PER_EXPERT * experts:
                self._answers.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._answers


class Statistics:
    """Questions about one tensor of a merge.

    Attributes:
        experts: how many.
        shape: of the tensor.
        size: its number of entries.
    """

    def __init__(self, inputs: Inputs, memory: Memory, threads: int = 1) -> None:
        self.experts = len(inputs.experts)
        self.shape = inputs.shape
        self.size = inputs.experts[0].numel()
        self._inputs = inputs
        self._memory = memory
        self._threads = threads
        self._kernels = backend(inputs.experts[0].device)

    @property
    def has_base(self) -> bool:
        """Whether the part has a base."""
        return self._inputs.base is not None

    def gram(self, deltas: bool) -> tuple[tuple[float, ...], ...]:
        """Float64 dot products of the experts' differences from the base, or of base (first, if any) and experts."""

        def answer() -> tuple[tuple[float, ...], ...]:
            base, experts = self._inputs.base, self._inputs.experts

            def stretch(start: int) -> Any:
                part = slice(start, start + _STRETCH)
                first = None if base is None else base[part]
                return self._kernels.gram(first, [x[part] for x in experts], deltas=deltas)

            found = sum(in_threads(stretch, range(0, self.size, _STRETCH), self._threads))
            return tuple(tuple(float(x) for x in row) for row in found)

        return self._memory.get(("gram", deltas), answer)  # type: ignore[no-any-return]  # what `answer` gives

    def each(self, answer: Callable[[int], T]) -> list[T]:
        """`answer` for each expert; at the same time, unless all was known the last time."""
        before = self._memory.computed
        threads = self._threads if self._memory.stale else 1  # handing over what is known costs more than the answer
        found = in_threads(answer, range(self.experts), threads)
        self._memory.stale = self._memory.computed > before
        return found

    def rank(self, expert: int, count: int) -> Rank:
        """The end of the first `count` entries of expert `expert`'s difference (see `_plan.Rank`)."""
        return self._ranked(expert, count)[0]

    def ranks(self, expert: int, counts: Sequence[int]) -> tuple[Rank, ...]:
        """`rank` of several counts, found together."""
        self._prepare(expert, counts)
        return tuple(self.rank(expert, count) for count in counts)

    def l1(self, expert: int, mask: Mask) -> float:
        """The sum of |x - b| over the entries that `mask` keeps, in float64."""
        if isinstance(mask, Nothing):
            return 0.0
        if isinstance(mask, Everything):
            return self._ranked(expert, self.size)[1]
        if isinstance(mask, Band):
            sums = [0.0 if rank == NOTHING_YET else self._sum_to(expert, rank) for rank in (mask.upto, mask.above)]
            return max(0.0, sums[0] - sums[1])
        if isinstance(mask, Random):
            return self._random(expert, mask)
        return self.keys(expert, mask)[1]

    def keys(self, expert: int, mask: Ranked) -> tuple[Tensor, float]:
        """DELLA's mask of expert `expert` as a byte per entry (see `Backend`), and the sum of |x - b| kept."""
        inputs = self._base(), self._inputs.experts[expert], mask, self.shape
        step = round(GRID * (mask.low + mask.high) / 2)
        # On the grid always from the table, so that one merge has the bytes of a candidate.
        if self._kernels.tables and math.isclose(GRID * (mask.low + mask.high) / 2, step, abs_tol=1e-9):
            key = ("table", expert, mask.seed, mask.name, round(mask.high - mask.low, 12))
            table, sums = self._memory.get(key, lambda: self._kernels.ranked_table(*inputs), self.experts)
            return table, float(sums[step])
        if self._memory.tables:  # another density each time: nothing of this size is kept
            return self._kernels.ranked_mask(*inputs)
        return self._memory.get(  # type: ignore[no-any-return]
            ("keys", expert, mask), lambda: self._kernels.ranked_mask(*inputs)
        )

    def reduce(
        self,
        function: Callable[[Tensor | None, Sequence[Tensor], int], Any],
        *,
        key: Hashable = None,
        whole_rows: bool = False,
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The sum over all blocks of what `function(base, experts, start)` returns: numbers, added in float64.

        Args:
            function: gets float32 stretches (rows by columns if `whole_rows`) and the position of their first entry.
            key: under which the answer is remembered; None: not.
            whole_rows: stretches hold whole rows of the last dimension.
        """

        def answer() -> Any:
            total: Any = 0.0
            for base, experts, start in self._blocks(whole_rows):
                found = function(base, experts, start)
                total = total + (
                    found.double().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found, dtype=np.float64)
                )
            return np.asarray(total, dtype=np.float64)

        if key is None:
            return answer()  # type: ignore[no-any-return]
        return self._memory.get(("reduce", key), answer)  # type: ignore[no-any-return]

    def order(
        self,
        values: Callable[[Tensor | None, Sequence[Tensor], int], Tensor],
        ranks: Sequence[int],
        *,
        key: Hashable = None,
        whole_rows: bool = False,
    ) -> tuple[float, ...]:
        """Exact values at positions `ranks` (0: largest) of the descending order of a computed quantity >= 0."""

        def answer() -> Any:
            return self._kernels.select(
                lambda: (values(*block).flatten() for block in self._blocks(whole_rows)), tuple(ranks)
            )

        if key is None:
            return answer()  # type: ignore[no-any-return]
        return self._memory.get(("order", key, tuple(ranks)), answer)  # type: ignore[no-any-return]

    def _blocks(self, whole_rows: bool) -> Iterator[tuple[Tensor | None, tuple[Tensor, ...], int]]:
        return blocks(self._inputs, whole_rows=whole_rows)

    def _base(self) -> Tensor:
        assert self._inputs.base is not None, "this method's plan asked for differences without a base"
        return self._inputs.base

    def _ranked(self, expert: int, count: int) -> tuple[Rank, float]:
        if count <= 0:
            return NOTHING_YET, 0.0
        self._prepare(expert, (count,))
        return self._memory.get(("rank", expert, count), lambda: None)  # type: ignore[no-any-return]

    def _prepare(self, expert: int, counts: Sequence[int]) -> None:
        missing = {count for count in counts if count > 0 and ("rank", expert, count) not in self._memory}
        if not missing:
            return
        if self._memory.tables:
            for offset in {_offset(count, self.size) for count in missing}:
                missing |= {offset + step * self.size // GRID for step in range(GRID + 1)}
        wanted = sorted(count for count in missing if 0 < count <= self.size)
        found = self._kernels.ranks(self._base(), self._inputs.experts[expert], wanted)
        for count, (rank, total) in zip(wanted, found, strict=True):
            self._memory.put(("rank", expert, count), (rank, total), self.experts)
            self._memory.put(("sum", expert, rank), total, self.experts)

    def _sum_to(self, expert: int, rank: Rank) -> float:
        def forgotten() -> float:
            raise AssertionError(f"{rank} was not asked for before its sum")

        return self._memory.get(("sum", expert, rank), forgotten)  # type: ignore[no-any-return]

    def _random(self, expert: int, mask: Random) -> float:
        base, tensor = self._base(), self._inputs.experts[expert]
        step = 65536 // GRID
        if mask.threshold % step == 0:  # on the grid always, so that one merge has the bytes of a candidate
            key = ("random", expert, mask.seed, mask.name, mask.expert)
            sums = self._memory.get(
                key, lambda: self._kernels.random_sums(base, tensor, mask.seed, mask.name, mask.expert), self.experts
            )
            return float(sums[mask.threshold // step])
        return self._memory.get(  # type: ignore[no-any-return]
            ("random", expert, mask),
            lambda: self._kernels.random_sum(base, tensor, mask.seed, mask.name, mask.expert, mask.threshold),
            self.experts,
        )


def blocks(inputs: Inputs, *, whole_rows: bool) -> Iterator[tuple[Tensor | None, tuple[Tensor, ...], int]]:
    """The inputs as float32 stretches, with the position of the first entry; rows by columns if `whole_rows`."""
    size = inputs.experts[0].numel()
    columns = inputs.shape[-1] if whole_rows and inputs.shape else 1
    step = max(columns, _block_of(inputs.experts[0].device) // max(1, columns) * columns)
    for start in range(0, size, step):
        stop = min(size, start + step)

        def part(tensor: Tensor, start: int = start, stop: int = stop) -> Tensor:
            piece = tensor[start:stop].to(torch.float32)
            return piece.view(-1, columns) if whole_rows else piece

        yield None if inputs.base is None else part(inputs.base), tuple(part(x) for x in inputs.experts), start


def _offset(count: int, size: int) -> int:
    """How far `count` lies above a multiple of size / GRID: 0 for a trim on the grid, the outliers for a band."""
    near = -(-count * GRID // size)
    return next(count - step * size // GRID for step in (near, near - 1) if step * size // GRID <= count)


def _block_of(device: torch.device) -> int:
    return _BLOCK if device.type == "cpu" else 1 << 24
