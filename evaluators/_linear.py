"""Linear layers in float32 on CPUs, by oneDNN.

torch computes them by MKL's matrix product, which on a processor of AMD's reads the weights of a decode step (few rows)
at 8 to 16 GB/s, where oneDNN, which torch carries for half types, reads them at 14 to 28: 1.3 to 1.9 times as fast for
matrices of 1,024 and more and 1 to 64 rows, 1.1 to 1.2 times for 512 (`benchmarks/_products.py`). Sums are the same up
to their order. Weights stay where they are: packed ones would be faster yet (up to 1.7 times for 8 rows), at the price
of a second copy that every candidate makes anew.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn

LEAST = 1 << 17
"""Entries of a matrix: a call costs 20 us more than torch's own, and below this it is not made up for."""


def by_onednn(model: nn.Module) -> None:
    """Let a live model's linear layers be computed by oneDNN, where this torch has it and they are of its kind.

    Only for inference: the operator has no gradient.
    """
    weight = next(model.parameters())
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not _available():
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.numel() >= LEAST:  # a subclass may mean something else
            module.__class__ = _Linear


def _available() -> bool:
    # Measured on x86 alone.
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return x86 and built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        """Of `nn.Linear`, which names its argument so."""
        if not input.numel():
            return super().forward(input)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return found
