"""A merge of one tensor as data: what the fused kernels compute, entry by entry.

A method's `plan` looks at a whole tensor once (norms, ranks, sums: see `_statistics`) and says the rest as one of five
shapes, each of which needs only one pass over the inputs and no memory beyond a block:

* `Weighted`: a weighted sum of the inputs. Everything spherical ends here too: its coefficients come from dot products.
* `Sparse`: masked differences from the base, summed directly or by sign consensus.
* `Clipped`: one difference, clipped.
* `Touched`: who moved which entry.
* `Blocks`: any function of a stretch of entries, in torch.

Imports no torch: a plan travels as a value. "First entries" of a difference `d` always means by |d| descending, entries
of equal magnitude by position ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rank:
    """Where the first k entries of a difference end: those with |d| > threshold, and of |d| == threshold up to `last`.

    Attributes:
        threshold: a float32 magnitude.
        last: position in the whole tensor, row-major; -1 for none.
    """

    threshold: float
    last: int


NOTHING_YET = Rank(inf, -1)
"""The end of the first 0 entries."""


@dataclass(frozen=True)
class Everything:
    """All entries are kept."""


@dataclass(frozen=True)
class Nothing:
    """No entry is kept."""


@dataclass(frozen=True)
class Band:
    """Entries that come after `above` and not after `upto` are kept."""

    above: Rank
    upto: Rank


@dataclass(frozen=True)
class Random:
    """Entries whose 16 random bits (`_draw`) are below `threshold` are kept.

    Attributes:
        seed: of the merge.
        name: of the tensor.
        expert: whose stream it is.
        threshold: in [1, 65535].
    """

    seed: int
    name: str
    expert: int
    threshold: int


@dataclass(frozen=True)
class Ranked:
    """DELLA's mask: kept if the 16 random bits are below the threshold of the entry's own probability.

    An entry of rank r among the n of its row (0: last in the order, so smallest) is kept with probability
    `low + (high - low) * r / (n - 1)`, or `(low + high) / 2` where n is 1.

    Attributes:
        seed: of the merge.
        name: of the tensor.
        expert: whose stream it is.
        low: probability of the smallest.
        high: probability of the largest.
    """

    seed: int
    name: str
    expert: int
    low: float
    high: float


Mask = Everything | Nothing | Band | Random | Ranked


@dataclass(frozen=True)
class Weighted:
    """`base * b + sum_i experts[i] * x_i`, in float32, in that order; a zero base coefficient leaves b out."""

    base: float
    experts: tuple[float, ...]


@dataclass(frozen=True)
class Sparse:
    """`b + lambda_ * combine_i(weights[i] * scales[i] * masked_i(x_i - b))`, in float32.

    Direct sum (`consensus` false): `sum_i weights[i] * scales[i] * m_i * d_i`; `divide` is "no".

    Consensus: `v_i = weights[i] * scales[i] * m_i * d_i`; the elected sign is that of `sum_i v_i` (of
    `sum_i scales[i] * m_i * d_i` if not `weighted_election`), a zero sum counting as plus. Summed are the v_i of
    entries whose sign (of v_i; of d_i if not `weighted_election`) is the elected one; an entry that is exactly zero
    never agrees. `divide`: "weights", by the sum of the weights[i] that agree; "count", by their number; an exact 0
    counts as 1.

    Attributes:
        masks: one per expert.
        scales: one per expert, what the mask took away (L1 rescaling), else 1.
        weights: one per expert.
        consensus: whether signs are elected.
        weighted_election: whether weights count in the election.
        divide: by what the sum is divided.
        lambda_: scale of the merged difference.
    """

    masks: tuple[Mask, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    consensus: bool
    weighted_election: bool = True
    divide: Literal["no", "weights", "count"] = "no"
    lambda_: float = 1.0


@dataclass(frozen=True)
class Clipped:
    """`b + clamp(scale (x - b), -limit, limit)`, for one expert; every operation rounded to float32.

    Attributes:
        scale: of the difference.
        limit: the largest move, not negative.
    """

    scale: float
    limit: float


@dataclass(frozen=True)
class Touched:
    """Differences d_i of those experts that touch an entry (`|d_i| > epsilon`): their mean, or `s_i d_i` of one alone.

    Every operation is rounded to float32.

    Attributes:
        epsilon: a difference up to this is none.
        scales: one s_i per expert.
    """

    epsilon: float
    scales: tuple[float, ...]


@dataclass(frozen=True)
class Blocks:
    """`apply(base, experts, start)` on stretches of the flattened float32 inputs that begin at entry `start`.

    Attributes:
        apply: returns the merged stretch; base is None where the part has none.
        whole_rows: stretches hold whole rows (of the last dimension), and come shaped (rows, columns).
    """

    apply: Callable[[Tensor | None, Sequence[Tensor], int], Tensor]
    whole_rows: bool = False


Fused = Weighted | Sparse | Clipped | Touched
"""Plans that a device carries out in one pass."""

Plan = Fused | Blocks
