"""A LoRA adapter as data: what it does to each tensor of its base, under the base's own tensor names.

Only shapes are known here; numbers are read when asked for. Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from .._errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Layout = Literal["linear", "transposed", "embedding"]
"""How the base stores what the factors change.

`linear`: as (out, in), so the change is B A. `transposed`: as (in, out), PEFT's `fan_in_fan_out`, so it is (B A)^T.
`embedding`: as (vocabulary, width), with A (rank, vocabulary) and B (width, rank), so it is (B A)^T too.
"""


class Factors(NamedTuple):
    """The change `scale * b @ a` of a tensor shaped (rows, columns), in the base's own orientation, float32.

    Attributes:
        a: (rank, columns).
        b: (rows, rank).
        scale: PEFT's scaling: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    """

    a: Tensor
    b: Tensor
    scale: float


@dataclass(frozen=True)
class Lazy:
    """A tensor that is read, or computed, when asked for: shape, torch's name of its type, and how to get it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor]


@dataclass(frozen=True)
class LowRank:
    """`scale * b @ a` in PEFT's orientation: a (rank, in), b (out, rank); see `Layout` for the base's.

    Attributes:
        magnitude: DoRA's length of each output; the change then depends on the base and is not of low rank.
    """

    a: Lazy
    b: Lazy
    scale: float
    layout: Layout = "linear"
    magnitude: Lazy | None = None

    @property
    def rank(self) -> int:
        """Rank."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tensor that is changed."""
        out, width = self.b.shape[0], self.a.shape[1]
        return (out, width) if self.layout == "linear" else (width, out)

    def factors(self) -> Factors:
        """The change in the base's orientation, DoRA's magnitude left out."""
        import torch

        a, b = self.a.read().to(torch.float32), self.b.read().to(torch.float32)
        if self.layout != "linear":
            # In memory too: tied heads hold these factors the other way round, and must come out with the same bytes.
            a, b = b.T.contiguous(), a.T.contiguous()
        return Factors(a, b, self.scale)


@dataclass(frozen=True)
class Rows:
    """Whole rows of an embedding are replaced: row indices[i] by values[i] (PEFT's `trainable_token_indices`)."""

    indices: tuple[int, ...]
    values: Lazy


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor: replace it, then add `low_rank`; or replace some of its rows.

    Attributes:
        replacement: the whole tensor: of `modules_to_save`, a trained bias, or the base layer that PEFT saves with
            a targeted embedding.
        low_rank: factors of the difference.
        rows: excludes the other two.
    """

    replacement: Lazy | None = None
    low_rank: LowRank | None = None
    rows: Rows | None = None

    def parts(self) -> dict[str, Lazy]:
        """Everything that is stored, by role."""
        found = {"replacement": self.replacement, "rows": self.rows.values if self.rows else None}
        if self.low_rank is not None:
            found |= {"a": self.low_rank.a, "b": self.low_rank.b, "magnitude": self.low_rank.magnitude}
        return {role: lazy for role, lazy in found.items() if lazy is not None}


@dataclass(frozen=True, eq=False)
class Adapter:
    """Changes to tensors of some base.

    Attributes:
        name: how errors call it.
        changes: by the changed tensor's name in the base, in natural order.
        base_name: of the base it was trained on, as its configuration says; None if that says nothing.
        task_type: PEFT's, None if unset.
        origin: opens it again in another process, as (function, arguments); None if it pickles as it is.
    """

    name: str
    changes: Mapping[str, Change]
    base_name: str | None = None
    task_type: str | None = None
    origin: tuple[Callable[..., Adapter], tuple[object, ...]] | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.name, dict(self.changes), self.base_name, self.task_type, self.origin)
        return self.origin or (Adapter, fields)

    def factors(self, tensor: str) -> Factors | None:
        """The low-rank change of `tensor` in the base's orientation; None if it has none.

        Raises:
            InputError: the adapter is a DoRA one, whose change is not of low rank.
        """
        change = self.changes.get(tensor)
        if change is None or change.low_rank is None:
            return None
        self.refuse_magnitude(tensor)
        return change.low_rank.factors()

    def delta(self, tensor: str) -> Tensor | None:
        """`scale * B @ A` of `tensor`, float32, in the base's orientation; None if it has no low-rank change.

        Raises:
            InputError: see `factors`.
        """
        factors = self.factors(tensor)
        return None if factors is None else (factors.b @ factors.a).mul_(factors.scale)

    def refuse_magnitude(self, tensor: str) -> None:
        """Refuse a DoRA change of `tensor` where only low-rank changes will do.

        Raises:
            InputError: it is one.
        """
        low = self.changes[tensor].low_rank
        if low is not None and low.magnitude is not None:
            raise InputError(
                f"{self.name} is a DoRA adapter (use_dora): its change of {tensor} is not of low rank; "
                "merge it as a full model, folded into its base"
            )

    def digest(self) -> str:
        """SHA-256 over all that it does: names, roles, scales, rows, types, shapes and bytes."""
        import torch

        digest = hashlib.sha256()
        for tensor, change in self.changes.items():
            low, rows = change.low_rank, change.rows
            digest.update(f"{tensor}\0{low and (low.scale, low.layout)}\0{rows and rows.indices}\0".encode())
            for role, lazy in change.parts().items():
                digest.update(f"{role}\0{lazy.dtype}\0{lazy.shape}\0".encode())
                digest.update(lazy.read().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
