"""Sampling that depends on the sample and the position alone: not on batches, workers or generators of devices.

Every token comes from one hashed uniform number and the inverse of the model's distribution. A training that is
killed, or laid out otherwise, then asks the same model for the same completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, samples: Sequence[int], position: int) -> NDArray[np.float64]:
    """(len(samples),) numbers in [0, 1): SplitMix64 of the seed, the sample's number and the position."""
    with np.errstate(over="ignore"):
        state = _mixed(np.uint64(seed % 2**64) + _GOLDEN)
        state = _mixed((state ^ np.asarray(samples, dtype=np.uint64)) + _GOLDEN)
        state = _mixed((state ^ np.uint64(position)) + _GOLDEN)
    return np.asarray((state >> np.uint64(11)).astype(np.float64) / 2.0**53)


class Draw:
    """A logits processor of transformers: leaves of every row the one token that is drawn, for greedy decoding.

    Args:
        seed: of the training.
        samples: number of the sample in each row of the batch.
        temperature: the logits are divided by it.
        start: length of the (padded) prompts.
    """

    def __init__(self, seed: int, samples: Sequence[int], temperature: float, start: int) -> None:
        self.seed = seed
        self.samples = tuple(samples)
        self.temperature = temperature
        self.start = start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) logits to the same shape: 0 at the token drawn, -inf elsewhere."""
        share = torch.softmax(scores.to(torch.float64) / self.temperature, dim=-1).cumsum(dim=-1)
        drawn = torch.as_tensor(uniform(self.seed, self.samples, input_ids.shape[1] - self.start), device=scores.device)
        # The sum of the shares may end below 1 by rounding.
        token = (share < drawn[:, None] * share[:, -1:]).sum(dim=-1, keepdim=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


@contextmanager
def drawing(model: Any, seed: int, samples: Sequence[int], temperature: float) -> Iterator[None]:
    """Inside, ``model.generate`` draws for `samples`, row by row."""
    generate = model.generate

    def with_draw(*args: Any, **options: Any) -> Any:
        start = options["input_ids"].shape[1]
        return generate(*args, **options, logits_processor=[Draw(seed, samples, temperature, start)])

    model.generate = with_draw
    try:
        yield
    finally:
        del model.generate  # the method of its class is there again


def _mixed(state: Any) -> Any:
    for shift, factor in _MIX:
        state = (state ^ (state >> shift)) * factor
    return state ^ (state >> np.uint64(31))
