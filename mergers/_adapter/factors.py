"""Candidates over LoRA experts: with fixed factors, a linear merge is a few numbers and one product per tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .._checkpoint.checkpoint import Checkpoint, compare
from .._errors import InputError
from .adapter import Adapter, Change
from .fold import fold, replaced


class LowRankMerge:
    """`c b + sum_i w_i d_i` over adapters of one base, float32; `d_i` is what adapter i adds to the base b.

    Equals folding each adapter into the base and merging by `task_arithmetic` (c = 1), or by `linear`
    (c = sum w_i), within float32 rounding; costs one pass over the base instead of one over every expert. Factors
    are held in float32 on `device`, scalings multiplied into B; replaced tensors are held as differences.

    Attributes:
        base: the base.
        changed: tensors that some adapter changes, in the base's order.
    """

    def __init__(self, base: Checkpoint, adapters: Sequence[Adapter], device: str | torch.device = "cpu") -> None:
        """Read all factors.

        Raises:
            InputError: an adapter that does not fit the base (see `fold` and `compare`); a DoRA adapter.
        """
        self.base = base
        self._adapters = len(adapters)
        self._device = torch.device(device)
        changes = [self._fitting(adapter) for adapter in adapters]
        self.changed = tuple(name for name in base.names if any(name in one for one in changes))
        self._factors = {name: stack for name in self.changed if (stack := self._stack(changes, name)) is not None}
        self._differences = {name: dense for name in self.changed if (dense := self._dense(changes, name))}

    def merged(self, name: str, weights: Sequence[float], base_weight: float = 1.0) -> Tensor:
        """Tensor `name` of the merge, float32 on the device; a head that the base does not store: its embedding.

        Not to be written to: where nothing changes it may be the base's own map.

        Raises:
            InputError: another number of weights than of adapters; no such tensor.
        """
        if len(weights) != self._adapters:
            raise InputError(f"{self._adapters} adapters need as many weights, got {len(weights)}")
        source = name if name in self.base or self.base.head else self.base.embedding or name
        if source not in self.base:
            raise InputError(f"tensor {name} of the live model is not in base {self.base.path}; load this base")
        stored = self.base.read(source)
        if not self.base.is_float(source):
            return stored.to(self._device)
        whole = stored.to(self._device, torch.float32)
        if whole.data_ptr() == stored.data_ptr() and (source in self.changed or base_weight != 1):
            whole = whole.clone()  # what follows writes into it
        if source in self._factors:
            a, b, owners = self._factors[source]
            scales = torch.tensor(weights, dtype=torch.float32, device=self._device)[owners]
            whole.addmm_(b * scales, a, beta=base_weight)
        elif base_weight != 1:
            whole.mul_(base_weight)
        for owner, difference in self._differences.get(source, ()):
            whole.add_(difference, alpha=weights[owner])
        return whole

    def factors(self) -> Mapping[str, tuple[Tensor, Tensor, Tensor]] | None:
        """A (R, in), scaled B (out, R) and whose (R,) each rank is, by tensor: with these a candidate is its weights.

        None where an adapter also replaces a tensor or rows of one.
        """
        return None if self._differences else self._factors

    def apply(
        self, live: Mapping[str, Tensor], weights: Sequence[float], base_weight: float = 1.0, *, untouched: bool = True
    ) -> None:
        """Overwrite the live tensors with the merge, each rounded once to its type.

        Args:
            live: tensor name -> live tensor, for example a model's state dict; shared memory is written once.
            weights: one per adapter.
            base_weight: see the class.
            untouched: also write what no adapter changes; may be left out where `live` holds the base or an earlier
                candidate of this merge and `base_weight` is 1.

        Raises:
            InputError: see `merged`; a live tensor of another shape. `live` may then hold a mixture.
        """
        written = set()
        with torch.no_grad():
            for name, tensor in live.items():
                place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
                if place in written or not (untouched or base_weight != 1 or name in self.changed):
                    continue
                written.add(place)
                merged = self.merged(name, weights, base_weight)
                if merged.shape != tensor.shape:
                    shapes = list(tensor.shape), list(merged.shape)
                    raise InputError(f"the live {name} is {shapes[0]}, the base {shapes[1]}; load the base")
                tensor.copy_(merged)

    def _fitting(self, adapter: Adapter) -> Mapping[str, Change]:
        folded = fold(self.base, adapter)
        compare(self.base, folded, adapter.name)
        for name in adapter.changes:
            adapter.refuse_magnitude(name)
        return folded.changes

    def _stack(self, changes: Sequence[Mapping[str, Change]], name: str) -> tuple[Tensor, Tensor, Tensor] | None:
        """A (all ranks, in), scaled B (out, all ranks), and whose each rank is."""
        parts = [
            (owner, low.factors()) for owner, one in enumerate(changes) if name in one and (low := one[name].low_rank)
        ]
        if not parts:
            return None
        a = torch.cat([factors.a for _, factors in parts])
        b = torch.cat([factors.b * factors.scale for _, factors in parts], 1)
        owners = torch.tensor([owner for owner, factors in parts for _ in range(len(factors.a))])
        return a.to(self._device), b.to(self._device), owners.to(self._device)

    def _dense(self, changes: Sequence[Mapping[str, Change]], name: str) -> list[tuple[int, Tensor]]:
        """(adapter, difference from the base) of those that replace tensor `name` or rows of it."""
        found = []
        for owner, change in ((owner, one[name]) for owner, one in enumerate(changes) if name in one):
            if change.replacement is not None or change.rows is not None:
                stored = self.base.read(name)
                difference = replaced(stored, change) - stored.to(torch.float32)
                if difference.any():  # PEFT stores an embedding's base beside its factors, unchanged
                    found.append((owner, difference.to(self._device)))
        return found
