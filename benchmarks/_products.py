"""Matrix products of linear layers: torch's own against oneDNN on the same weights (`evaluators/_linear.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from evaluators._linear import _available

SHAPES = ((96, 96), (288, 96), (256, 256), (2048, 96), (1024, 1024), (2816, 1024), (1024, 2816))
ROWS = (1, 8, 64, 512)
AT_ONCE = 1 << 26
"""Entries of all weights that one timing goes through: more than caches hold, as in a pass through a model."""


def products(rounds: int) -> dict[str, Any]:
    """Of each shape (out, in) and number of rows: microseconds of both, best of `rounds` in turns, and their ratio.

    Empty where the engine does not use oneDNN.
    """
    found: dict[str, Any] = {}
    if not _available():
        return found
    for out, into in SHAPES:
        weights = [torch.randn(out, into) for _ in range(max(2, min(200, AT_ONCE // (out * into))))]
        for rows in ROWS:
            inputs = torch.randn(rows, 1, into)
            own, onednn = _best(rounds, inputs, weights)
            found[f"{out} x {into}, {rows} rows"] = {
                "torch_us": round(1e6 * own, 1),
                "onednn_us": round(1e6 * onednn, 1),
                "ratio": round(own / onednn, 2),
                "onednn_gb_per_s": round(4e-9 * out * into / onednn, 2),
            }
    return found


@torch.inference_mode()
def _best(rounds: int, inputs: Tensor, weights: list[Tensor]) -> tuple[float, float]:
    def seconds(call: Callable[[Tensor], Any]) -> float:
        start = time.perf_counter()
        for weight in weights:
            call(weight)
        return (time.perf_counter() - start) / len(weights)

    def own(weight: Tensor) -> Tensor:
        return torch.nn.functional.linear(inputs, weight)

    def onednn(weight: Tensor) -> Any:
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, None, "none", [], "")

    pairs = [(seconds(own), seconds(onednn)) for _ in range(rounds + 1)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
