"""Forward passes of a causal model: logits only where they are wanted, KV caches, a prefix that rows share.

Shapes: B rows of a batch, T tokens of a padded row, N positions with logits, V vocabulary, P tokens of the prefix.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from ._load import Loaded
from ._tokens import Ids, pad


@dataclass(frozen=True)
class Prefix:
    """The first tokens of every row, gone through once. `length` P; `cache` of one row, or None where P is 0."""

    length: int = 0
    cache: Any = None


@dataclass
class State:
    """A batch that can be continued.

    Attributes:
        logits: (B, V) after the last token.
        cache: keys and values of everything so far.
        mask: (B, T so far) real tokens, or None where nothing is padded.
        place: (B,) position of the next token.
    """

    logits: Tensor
    cache: Any
    mask: Tensor | None
    place: Tensor

    def keep(self, rows: Tensor) -> bool:
        """Take the rows with these indices, any number of times each; False (and no change) where caches cannot."""
        if not all(isinstance(layer, DynamicLayer) for layer in self.cache.layers):
            return False
        self.cache.batch_select_indices(rows)
        self.logits, self.place = self.logits[rows], self.place[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        return True


class Forward:
    """The model's passes. Holds no state between calls but the hook on the output layer."""

    def __init__(self, loaded: Loaded) -> None:
        self._model, self._device, self._fill = loaded.model, loaded.device, loaded.fill
        self._positional = "position_ids" in inspect.signature(self._model.forward).parameters
        self._wanted: Tensor | None = None
        head = self._model.get_output_embeddings()
        self.vocabulary = int(head.weight.shape[0])
        head.register_forward_pre_hook(self._only_wanted)

    def tensor(self, array: Any) -> Tensor:
        """A numpy array on the model's device."""
        return torch.from_numpy(array).to(self._device)

    def whole(self, rows: Sequence[Ids], wanted: Sequence[Any]) -> Tensor:
        """Logits (N, V) of complete rows at the positions `wanted` of each row, one row after the other."""
        # Padding on the right: causal attention never looks there, so no mask is needed and the fast kernel applies.
        ids, _ = pad(rows, left=False, fill=self._fill)
        flat = [row * ids.shape[1] + places for row, places in enumerate(wanted)]
        return self._pass(self.tensor(ids), self.tensor(np.concatenate(flat)))[0]

    def prefix(self, ids: Ids) -> Prefix:
        """Go through the tokens that all rows begin with; an empty one where this model's caches cannot be copied."""
        if not len(ids):
            return Prefix()
        tokens = self.tensor(np.asarray(ids, dtype=np.int64)[None])
        _, cache = self._pass(tokens, self._last(tokens), decode=True)
        # A sliding window has forgotten the prefix's first tokens, and what it keeps depends on what came at once.
        plain = all(type(layer) is DynamicLayer for layer in cache.layers)
        return Prefix(len(ids), cache) if plain else Prefix()

    def start(self, rows: Sequence[Ids], prefix: Prefix) -> State:
        """Go through prompts; each begins with the prefix."""
        known = prefix.length
        ids, real = pad([row[known:] for row in rows], left=True, fill=self._fill)
        tokens, width = self.tensor(ids), ids.shape[1]
        place = self.tensor(np.asarray([len(row) for row in rows]))
        positions = (torch.arange(width, device=self._device) - width + place[:, None]).clamp(min=0)
        mask = cache = None
        if real is not None:
            before = np.ones((len(rows), known), dtype=np.bool_)
            mask = self.tensor(np.concatenate([before, real], axis=1))
        if prefix.cache is not None:
            cache = copy.deepcopy(prefix.cache)
            cache.batch_repeat_interleave(len(rows))
        logits, cache = self._pass(tokens, self._last(tokens), mask, positions, cache, decode=True)
        return State(logits, cache, mask, place)

    def step(self, state: State, tokens: Tensor) -> None:
        """Go on by one token (B,) a row."""
        if state.mask is not None:
            state.mask = torch.cat([state.mask, state.mask.new_ones(len(tokens), 1)], dim=1)
        columns = tokens[:, None]
        state.logits, state.cache = self._pass(
            columns, self._last(columns), state.mask, state.place[:, None], state.cache, decode=True
        )
        state.place = state.place + 1

    def more(self, state: State, rows: Sequence[Ids], wanted: Sequence[Any]) -> Tensor:
        """Logits (N, V) of rows that follow the state, at the positions `wanted` of each; the state is used up."""
        ids, _ = pad(rows, left=False, fill=self._fill)
        width = ids.shape[1]
        flat = [row * width + places for row, places in enumerate(wanted)]
        # What is padded on the right is never looked at by what comes before it.
        mask = None if state.mask is None else torch.cat([state.mask, state.mask.new_ones(len(rows), width)], dim=1)
        positions = state.place[:, None] + torch.arange(width, device=self._device)
        wanted_at = self.tensor(np.concatenate(flat))
        return self._pass(self.tensor(ids), wanted_at, mask, positions, state.cache, decode=True)[0]

    def _pass(
        self,
        tokens: Tensor,
        wanted: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
        *,
        decode: bool = False,
    ) -> tuple[Tensor, Any]:
        """Logits (N, V) at `wanted` (indices into the flattened (B, T)) and the cache after `tokens` (B, T)."""
        kwargs: dict[str, Any] = {"use_cache": decode}
        if cache is not None:
            kwargs["past_key_values"] = cache
        if positions is not None and self._positional:
            kwargs["position_ids"] = positions
        self._wanted = wanted
        try:
            out = self._model(input_ids=tokens, attention_mask=mask, **kwargs)
        finally:
            self._wanted = None
        return out.logits[0], out.past_key_values if decode else None

    def _only_wanted(self, _head: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Before the output layer: keep the hidden states (1, N, H) whose logits are wanted.

        A hook rather than `logits_to_keep`, which takes the same positions for all rows and not every model has;
        whatever a model does to its logits afterwards (scales, soft caps) still happens.
        """
        if self._wanted is None:
            return args
        hidden, *rest = args
        return (hidden.reshape(-1, hidden.shape[-1])[self._wanted][None], *rest)

    def _last(self, tokens: Tensor) -> Tensor:
        """Flat index (B,) of the last position of each row of (B, T)."""
        rows, width = tokens.shape
        return torch.arange(rows, device=self._device) * width + (width - 1)


def best(logits: Tensor) -> Tensor:
    """Argmax (N,) of logits (N, V).

    Raises:
        FloatingPointError: logits that are not finite. The argmax of NaNs is a token like any other: without this,
            broken weights would get a score.
    """
    top = logits.max(dim=-1)  # a NaN anywhere in a row becomes its maximum
    broken = int((~torch.isfinite(top.values)).sum())
    if broken:
        raise FloatingPointError(f"the logits of {broken} of {len(top.values)} positions are not finite")
    return top.indices


def logprobs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Natural log-probability (N,), float32, of `targets` (N,), and whether each is the argmax.

    Raises:
        FloatingPointError: see `best`.
    """
    greedy = best(logits) == targets
    # In parts: a whole (N, V) copy in float32 would be the largest tensor of the pass.
    parts = zip(torch.split(logits, 256), torch.split(targets, 256), strict=True)
    values = [part.float().log_softmax(dim=-1).gather(1, wanted[:, None])[:, 0] for part, wanted in parts]
    return torch.cat(values), greedy
