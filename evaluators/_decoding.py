"""The decode loop: greedy or sampled, rows leave when they end.

Why an own loop: on the demo model (0.56 M parameters, one CPU thread, 900 prompts, 16 new tokens) it takes two
thirds of the time of `model.generate` with the same batches; the rest goes into per-step Python there. Tried and not
kept, as they changed nothing or lost: a preallocated cache instead of the library's growing one, eager attention, and
prompts that join as others end (batches of 16 to 64: as many passes or more, as each group that joins needs one, and 3
to 14 % more processor time).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ._engine import Sampling, Stop
from ._forward import Forward, Prefix, best
from ._tokens import Encoder, Ids

COMPACT_AT = 0.75
"""Rows leave the batch once at most this share is unfinished: dropping them copies the whole KV cache."""


class Decoder:
    """Prompts to new tokens."""

    def __init__(self, forward: Forward, encoder: Encoder, ends: Tensor, fill: int) -> None:
        self._forward, self._encoder, self._ends, self._fill = forward, encoder, ends, fill

    @torch.inference_mode()
    def decode(
        self,
        prompts: Sequence[Ids],
        limit: int,
        stop: Stop | None = None,
        sampling: Sampling | None = None,
        prefix: Prefix | None = None,
        owners: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """At most `limit` new tokens for each prompt, without the end token; `stop` may end a row earlier.

        `owners`: candidate of each prompt where the model holds several.
        """
        state = self._forward.start(prompts, prefix or Prefix(), owners)
        rows = torch.arange(len(prompts), device=state.place.device)
        alive = torch.ones_like(rows, dtype=torch.bool)
        written = torch.full((len(prompts), limit), self._fill, device=rows.device)
        lengths = torch.zeros_like(rows)
        for step in range(1, limit + 1):
            chosen = best(state.logits) if sampling is None else draw(state.logits, sampling, rows.tolist(), step)
            alive &= ~torch.isin(chosen, self._ends)
            written[rows, step - 1] = chosen
            lengths[rows] += alive
            if step == limit:
                break
            # Asking costs a decode of every text, so ask after 2, 4, 8, ... tokens: at most half of the work is wasted.
            if stop is not None and step > 1 and step & (step - 1) == 0:
                self._ask(stop, rows, alive, written[:, :step])
            left = int(alive.sum())
            if left == 0:
                break
            if left <= COMPACT_AT * len(alive):
                kept = alive.nonzero()[:, 0]
                if state.keep(kept):
                    rows, alive, chosen = rows[kept], alive[kept], chosen[kept]
            self._forward.step(state, chosen)
        return [row[:length] for row, length in zip(written.tolist(), lengths.tolist(), strict=True)]

    def _ask(self, stop: Stop, rows: Tensor, alive: Tensor, written: Tensor) -> None:
        """Clear `alive` (B,) where `stop` says that more text changes nothing."""
        asked = alive.nonzero()[:, 0]
        indices = rows[asked]
        texts = self._encoder.texts(written[indices].tolist())
        # A character that is still incomplete decodes to U+FFFD.
        decided = [stop(index, text.rstrip("\ufffd")) for index, text in zip(indices.tolist(), texts, strict=True)]
        alive[asked] = ~torch.tensor(decided, dtype=torch.bool, device=alive.device)


def draw(logits: Tensor, sampling: Sampling, rows: Sequence[int], step: int) -> Tensor:
    """One token (B,) from logits (B, V), by the inverse of the cumulative distribution.

    One uniform number decides a token, so it can come from a hash of what it belongs to; noise for every entry of the
    vocabulary could not.
    """
    best(logits)  # refuses what is not finite
    chance = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    order = chance.argsort(dim=-1, descending=True, stable=True)
    chance = chance.gather(1, order).double().cumsum(dim=-1)
    # The nucleus: the first tokens that together reach top_p; a draw falls below its total.
    inside = (chance < sampling.top_p).sum(dim=-1, keepdim=True).clamp(max=chance.shape[1] - 1)
    total = chance.gather(1, inside)
    uniform = torch.tensor([[_uniform(sampling, row, step)] for row in rows], device=logits.device, dtype=chance.dtype)
    place = torch.searchsorted(chance, uniform * total, right=True).clamp(max=chance.shape[1] - 1)
    return order.gather(1, place)[:, 0]


def until(texts: Sequence[str]) -> Callable[[int, str], bool]:
    """A `Stop` that ends a response once it holds one of `texts`."""
    return lambda _index, text: any(end in text for end in texts)


def cut(response: str, texts: Sequence[str]) -> str:
    """The response before the first of `texts`."""
    return response[: min((place for end in texts if (place := response.find(end)) >= 0), default=len(response))]


def _uniform(sampling: Sampling, row: int, step: int) -> float:
    """In [0, 1), of 53 bits."""
    text = f"{sampling.seed}\x1f{sampling.keys[row]}\x1f{step}".encode()
    return float(np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), dtype="<u8")[0] >> np.uint64(11)) / 2**53
