"""Several candidates in one live model: each row of a batch belongs to one of them, and its layers act accordingly.

Two ways to say how candidates differ:

* `Adapters`: low-rank factors that all share, and for each candidate a scale for each rank (LoRA experts under a linear
  merge). The base's matrix product is done once for all rows; what is added is s_k * (x A^T) B^T.
* `Stacked`: whole tensors for each candidate (small models). Each layer acts on one candidate's rows after the other's.

Both replace what a module does for the length of a `with` block; the live weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ._errors import InputError, some


@dataclass(frozen=True)
class Adapters:
    """Candidates as scales of shared low-rank factors.

    Attributes:
        factors: tensor name -> (A (R, in), B (out, R)); the change of a tensor is B diag(s) A.
        scales: tensor name -> (K, R) s of each candidate.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    scales: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        """K."""
        return len(next(iter(self.scales.values())))


@dataclass(frozen=True)
class Stacked:
    """Candidates as whole tensors.

    Attributes:
        tensors: tensor name -> (K, ...) in the live type; tensors that are not named are the live ones.
    """

    tensors: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        """K."""
        return len(next(iter(self.tensors.values())))


Candidates = Adapters | Stacked


@dataclass
class Owners:
    """Whose the rows of the pass under way are; set by `Forward` for each pass.

    Attributes:
        rows: (B,) candidate of each row, in rising order.
        wanted: (N,) of each position whose hidden state alone goes on, or None where all do.
    """

    rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    wanted: Tensor | None = None

    def of(self, hidden: Tensor) -> tuple[Tensor, int]:
        """Candidates along one of the dimensions of a module's input, and which.

        Raises:
            InputError: the model gives its modules something else than (B, T, ...) or (1, N, ...).
        """
        if hidden.dim() >= 2 and hidden.shape[0] == len(self.rows):
            return self.rows, 0
        if self.wanted is not None and hidden.shape[:2] == (1, len(self.wanted)):
            return self.wanted, 1
        raise InputError("this model mixes the rows of a batch in its layers; score its candidates one by one")


@contextmanager
def several(model: nn.Module, names: Mapping[int, str], candidates: Candidates, owners: Owners) -> Iterator[None]:
    """Let modules act for the candidate of each row until the block ends.

    Args:
        model: the live model.
        names: data pointer of each live tensor -> its name in the checkpoint.
        candidates: how they differ.
        owners: whose rows a pass holds, kept up to date by who runs it.

    Raises:
        InputError: factors of a tensor that is no linear layer's, or tensors that the model does not have.
    """
    changed = candidates.factors if isinstance(candidates, Adapters) else candidates.tensors
    found: dict[str, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for own, parameter in module.named_parameters(recurse=False):
            name = names.get(parameter.data_ptr(), "")
            if name in changed:
                found.setdefault(name, []).append((module, own))
    missing = [name for name in changed if name not in found]
    if missing:
        raise InputError(f"{len(missing)} tensors of the candidates are not in the live model: {some(missing)}")
    replaced: dict[nn.Module, Callable[..., Tensor]] = {}
    if isinstance(candidates, Adapters):
        for name, places in found.items():
            for module, own in places:
                if not isinstance(module, nn.Linear) or own != "weight":
                    raise InputError(f"{name}: only linear layers can have adapters; score candidates one by one")
                replaced[module] = _adapted(module, *candidates.factors[name], candidates.scales[name], owners)
    else:
        by_module: dict[nn.Module, dict[str, Tensor]] = {}
        for name, places in found.items():
            for module, own in places:
                by_module.setdefault(module, {})[own] = candidates.tensors[name]
        replaced = {module: _stacked(module, own, owners) for module, own in by_module.items()}
    for module, forward in replaced.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in replaced:
            del module.forward  # the class's own is behind it


def _adapted(module: nn.Linear, a: Tensor, b: Tensor, scales: Tensor, owners: Owners) -> Callable[[Tensor], Tensor]:
    down, up, scales = (part.to(module.weight.device, module.weight.dtype) for part in (a, b, scales))
    call = type(module).forward

    def forward(hidden: Tensor) -> Tensor:
        candidates, where = owners.of(hidden)
        chosen = scales[candidates].unsqueeze(1 - where)
        return call(module, hidden) + nn.functional.linear(nn.functional.linear(hidden, down) * chosen, up)

    return forward


def _stacked(module: nn.Module, tensors: Mapping[str, Tensor], owners: Owners) -> Callable[..., Tensor]:
    count = len(next(iter(tensors.values())))
    shared: dict[str, Any] = module._parameters
    versions = [
        {**shared, **{own: nn.Parameter(tensor[k], requires_grad=False) for own, tensor in tensors.items()}}
        for k in range(count)
    ]
    call = type(module).forward

    def forward(hidden: Tensor, *rest: Any) -> Tensor:
        candidates, where = owners.of(hidden)
        sizes = torch.bincount(candidates, minlength=count).tolist()
        parts = []
        try:
            for k, part in enumerate(torch.split(hidden, sizes, dim=where)):
                if sizes[k]:
                    module._parameters = versions[k]
                    parts.append(call(module, part, *rest))
        finally:
            module._parameters = shared
        return torch.cat(parts, dim=where)

    return forward


def parts(count: int, candidates: int) -> Sequence[int]:
    """The candidate of each of `count` prompts that are given for one candidate after the other.

    Raises:
        ValueError: they do not divide.
    """
    if count % candidates:
        raise ValueError(f"{count} prompts for {candidates} candidates: give all of them the same number")
    return [index // (count // candidates) for index in range(count)]
