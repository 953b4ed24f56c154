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

from .._plan import NOTHING_YET, Everything, Mask, Nothing, Random, Rank, Ranked
from .backend import backend
from .scratch import scratch
from .threads import in_threads

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


Block = tuple[Tensor | None, tuple[Tensor, ...], int]
"""Float32 stretches of base and experts, and the position of their first entry."""


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

    def get(self, key: Hashable, answer: Callable[[], T], experts: int = 1) -> T:
        """The remembered answer to `key`, else that of `answer`."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                known: T = self._answers[key]
                return known
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

    def __init__(
        self, inputs: Inputs, memory: Memory, threads: int = 1, refuse: Callable[[], None] = lambda: None
    ) -> None:
        """Nothing is looked at before the first question.

        Args:
            inputs: the tensor's.
            memory: what is known about them.
            threads: how many may work on an answer.
            refuse: raises where an input is not finite; asked before anything is measured.
        """
        self.experts = len(inputs.experts)
        self.shape = inputs.shape
        self.size = inputs.experts[0].numel()
        self._unchecked = inputs
        self._refuse = refuse
        self._memory = memory
        self._threads = threads
        self._kernels = backend(inputs.experts[0].device)

    @property
    def has_base(self) -> bool:
        """Whether the part has a base."""
        return self._unchecked.base is not None

    @property
    def _inputs(self) -> Inputs:
        self._refuse()
        return self._unchecked

    def gram(self, deltas: bool) -> tuple[tuple[float, ...], ...]:
        """Float64 dot products of the experts' differences from the base, or of base (first, if any) and experts."""

        def answer() -> tuple[tuple[float, ...], ...]:
            inputs = self._inputs
            base, experts = inputs.base, inputs.experts

            def stretch(start: int) -> Any:
                part = slice(start, start + _STRETCH)
                first = None if base is None else base[part]
                return self._kernels.gram(first, [x[part] for x in experts], deltas=deltas)

            found = sum(in_threads(stretch, range(0, self.size, _STRETCH), self._threads))
            return tuple(tuple(float(x) for x in row) for row in found)

        return self._memory.get(("gram", deltas), answer)

    def each(self, answer: Callable[[int], T]) -> list[T]:
        """`answer` for each expert; at the same time, unless all was known the last time."""
        self._refuse()  # it has threads of its own
        before = self._memory.computed
        threads = self._threads if self._memory.stale else 1  # handing over what is known costs more than the answer
        found = in_threads(answer, range(self.experts), threads)
        self._memory.stale = self._memory.computed > before
        return found

    def rank(self, expert: int, count: int) -> Rank:
        """The end of the first `count` entries of expert `expert`'s difference (see `_plan.Rank`)."""
        return self.ranks(expert, (count,))[0]

    def ranks(self, expert: int, counts: Sequence[int]) -> tuple[Rank, ...]:
        """`rank` of several counts, found together."""
        if self._memory.tables:
            self._measure(expert, counts)
        base, tensor = self._base(), self._inputs.experts[expert]

        def one(count: int) -> Rank:
            key = ("rank", expert, count)
            found = self._memory.get(key, lambda: self._kernels.rank(base, tensor, count), self.experts)
            self._memory.get(("count", expert, found), lambda: count, self.experts)
            return found

        return tuple(NOTHING_YET if count <= 0 else one(count) for count in counts)

    def l1(self, expert: int, mask: Mask) -> tuple[float, float]:
        """Sums of |x - b| in float64: over all entries, and over those that `mask` keeps.

        How the two are added depends on the kind of mask alone, so that one merge has the bytes of a candidate.
        """
        if isinstance(mask, (Everything, Nothing)):
            whole = self._total(expert)
            return whole, whole if isinstance(mask, Everything) else 0.0
        if isinstance(mask, Random):
            return self._random(expert, mask)
        if isinstance(mask, Ranked):
            return self._total(expert), self.keys(expert, mask)[1]
        whole, upto, above = self._sums_to(expert, (None, mask.upto, mask.above))
        return whole, max(0.0, upto - above)

    def keys(self, expert: int, mask: Ranked) -> tuple[Tensor, float]:
        """DELLA's mask of expert `expert` as a byte per entry (see `Backend`), and the sum of |x - b| kept."""
        inputs = self._base(), self._inputs.experts[expert], mask, self.shape
        step = round(GRID * (mask.low + mask.high) / 2)
        # On the grid always from the table, so that one merge has the bytes of a candidate.
        if math.isclose(GRID * (mask.low + mask.high) / 2, step, abs_tol=1e-9):
            key = ("table", expert, mask.seed, mask.name, round(mask.high - mask.low, 12))
            found = self._memory.get(key, lambda: self._kernels.ranked_table(*inputs), self.experts)
            if found is not None:
                return found[0], float(found[1][step])
        if self._memory.tables:  # another density each time: nothing of this size is kept
            return self._kernels.ranked_mask(*inputs)
        return self._memory.get(("keys", expert, mask), lambda: self._kernels.ranked_mask(*inputs))

    def reduce(
        self,
        function: Callable[[Tensor | None, Sequence[Tensor], int], Any],
        *,
        key: Hashable = None,
        whole_rows: bool = False,
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The sum over all blocks of what `function(base, experts, start)` returns, in order and in float64.

        Args:
            function: gets float32 stretches (rows by columns if `whole_rows`) and the position of their first entry;
                several at the same time.
            key: under which the answer is remembered; None: not.
            whole_rows: stretches hold whole rows of the last dimension.
        """

        def of(block: Block) -> np.ndarray[Any, np.dtype[np.float64]]:
            found = function(*block)
            return found.double().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found, dtype=np.float64)

        def answer() -> np.ndarray[Any, np.dtype[np.float64]]:
            return np.asarray(sum(in_threads(of, self._blocks(whole_rows), self._threads)), dtype=np.float64)

        return answer() if key is None else self._memory.get(("reduce", key), answer)

    def computed(
        self, values: Callable[[Tensor | None, Sequence[Tensor], int], Tensor], *, whole_rows: bool = False
    ) -> Tensor:
        """A quantity >= 0 of each entry: float32, flat, on the inputs' device, in memory that may be a file's.

        Args:
            values: as `function` of `reduce`.
            whole_rows: as there.
        """
        device = self._unchecked.experts[0].device
        room = scratch(4 * self.size).view(torch.float32) if device.type == "cpu" else None
        out = torch.empty(self.size, dtype=torch.float32, device=device) if room is None else room

        def fill(block: Block) -> None:
            found = values(*block).flatten()
            out[block[2] : block[2] + found.numel()] = found

        in_threads(fill, self._blocks(whole_rows), self._threads)
        return out

    def first(self, values: Tensor, count: int) -> Rank:
        """The end of the first `count` entries of a `computed` quantity, largest first, equal ones by position."""
        # Memory of zeros that nobody writes to is one page.
        return NOTHING_YET if count <= 0 else self._kernels.rank(torch.zeros_like(values), values, count)

    def remembered(self, key: Hashable, answer: Callable[[], T]) -> T:
        """The answer to a question of a method's own, kept under `key`."""
        return self._memory.get(("own", key), answer)

    def _blocks(self, whole_rows: bool) -> Iterator[Block]:
        return blocks(self._inputs, whole_rows=whole_rows)

    def _base(self) -> Tensor:
        base = self._inputs.base
        assert base is not None, "this method's plan asked for differences without a base"
        return base

    def _total(self, expert: int) -> float:
        base, tensor = self._base(), self._inputs.experts[expert]
        return self._memory.get(("l1", expert), lambda: self._kernels.l1(base, tensor), self.experts)

    def _measure(self, expert: int, counts: Sequence[int]) -> None:
        """Answer `counts`, their sums, and with tables all of their grid, by one look at the expert."""
        missing = {count for count in counts if count > 0 and ("measured", expert, count) not in self._memory}
        if not missing:
            return
        if self._memory.tables:
            for offset in {_offset(count, self.size) for count in missing}:
                missing |= {offset + step * self.size // GRID for step in range(GRID + 1)}
        wanted = sorted(count for count in missing if 0 < count <= self.size)
        found = self._kernels.ranks(self._base(), self._inputs.experts[expert], wanted)
        for count, (rank, total) in zip(wanted, found, strict=True):
            self._memory.put(("measured", expert, count), total, self.experts)
            self._memory.put(("rank", expert, count), rank, self.experts)
            self._memory.put(("count", expert, rank), count, self.experts)

    def _sums_to(self, expert: int, ranks: Sequence[Rank | None]) -> tuple[float, ...]:
        """The sums of |x - b| up to ranks that were asked for before; None stands for the last entry."""

        def forgotten() -> int:
            raise AssertionError("a rank is asked for before its sum")

        def count_of(rank: Rank | None) -> int:
            if rank is None:
                return self.size
            return 0 if rank == NOTHING_YET else self._memory.get(("count", expert, rank), forgotten)

        counts = [count_of(rank) for rank in ranks]
        self._measure(expert, counts)
        return tuple(self._memory.get(("measured", expert, count), lambda: 0.0) if count else 0.0 for count in counts)

    def _random(self, expert: int, mask: Random) -> tuple[float, float]:
        base, tensor = self._base(), self._inputs.experts[expert]
        step = 65536 // GRID
        if mask.threshold % step == 0:
            key = ("random", expert, mask.seed, mask.name, mask.expert)
            sums = self._memory.get(
                key, lambda: self._kernels.random_sums(base, tensor, mask.seed, mask.name, mask.expert), self.experts
            )
            return float(sums[-1]), float(sums[mask.threshold // step])
        kept = self._memory.get(
            ("random", expert, mask),
            lambda: self._kernels.random_sum(base, tensor, mask.seed, mask.name, mask.expert, mask.threshold),
            self.experts,
        )
        return self._total(expert), kept


def blocks(inputs: Inputs, *, whole_rows: bool) -> Iterator[Block]:
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
