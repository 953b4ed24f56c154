"""Forward passes of a causal model: logits only where they are wanted, KV caches, a prefix that rows share.

Shapes: B rows of a batch, T tokens of a padded row, N positions with logits, V vocabulary, P tokens of the prefix.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from ._load import Loaded
from ._several import Owners
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
        owners: (B,) candidate of each row, where there are several.
    """

    logits: Tensor
    cache: Any
    mask: Tensor | None
    place: Tensor
    owners: Tensor | None = None

    def keep(self, rows: Tensor) -> bool:
        """Take the rows with these indices; False (and no change) where caches cannot."""
        if not all(isinstance(layer, DynamicLayer) for layer in self.cache.layers):
            return False
        self.cache.batch_select_indices(rows)
        self.logits, self.place = self.logits[rows], self.place[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        self.owners = None if self.owners is None else self.owners[rows]
        return True


class Forward:
    """The model's passes. Holds no state between calls but the hooks on the output layer and before it."""

    def __init__(self, loaded: Loaded) -> None:
        self._model, self._device, self._fill = loaded.model, loaded.device, loaded.fill
        self._positional = "position_ids" in inspect.signature(self._model.forward).parameters
        self._wanted: Tensor | None = None
        self._shape: tuple[int, int] = (0, 0)
        #: Whose rows the pass under way has, where the model holds several candidates.
        self.owners = Owners()
        head = self._model.get_output_embeddings()
        self.vocabulary = int(head.weight.shape[0])
        head.register_forward_pre_hook(self._only_wanted)
        last = _last_block(self._model)
        if last is not None:
            last.register_forward_pre_hook(self._only_wanted)
            last.register_forward_hook(self._at_their_places)

    @cached_property
    def plain(self) -> bool:
        """Whether every layer attends to all tokens before, as a mask and positions of our own say.

        False for sliding windows, chunks and recurrent states, and where positions are counted, not given.
        """
        config = self._model.config
        if not self._positional or config._attn_implementation != "sdpa" or getattr(config, "alibi", False):
            return False
        tokens = torch.full((1, 1), self._fill, device=self._device)
        with torch.inference_mode():
            _, cache = self._pass(tokens, self._last(tokens), decode=True)
        return all(type(layer) is DynamicLayer for layer in cache.layers)

    def tensor(self, array: Any) -> Tensor:
        """A numpy array on the model's device."""
        return torch.from_numpy(array).to(self._device)

    def whole(self, rows: Sequence[Ids], wanted: Sequence[Any], owners: Sequence[int] | None = None) -> Tensor:
        """Logits (N, V) of complete rows at the positions `wanted` of each row, one row after the other.

        `owners` (here and below): candidate of each row where the model holds several, in rising order.
        """
        # Padding on the right: causal attention never looks there, so no mask is needed and the fast kernel applies.
        ids, _ = pad(rows, left=False, fill=self._fill)
        flat = [row * ids.shape[1] + places for row, places in enumerate(wanted)]
        return self._pass(self.tensor(ids), self.tensor(np.concatenate(flat)), owners=self._owning(owners))[0]

    def prefix(self, ids: Ids) -> Prefix:
        """Go through the tokens that all rows begin with; an empty one where this model's caches cannot be copied."""
        # A sliding window has forgotten the prefix's first tokens, and what it keeps depends on what came at once.
        if not len(ids) or not self.plain:
            return Prefix()
        tokens = self.tensor(np.asarray(ids, dtype=np.int64)[None])
        return Prefix(len(ids), self._pass(tokens, self._last(tokens), decode=True)[1])

    def start(self, rows: Sequence[Ids], prefix: Prefix, owners: Sequence[int] | None = None) -> State:
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
        whose = self._owning(owners)
        logits, cache = self._pass(tokens, self._last(tokens), mask, positions, cache, decode=True, owners=whose)
        return State(logits, cache, mask, place, whose)

    def step(self, state: State, tokens: Tensor) -> None:
        """Go on by one token (B,) a row."""
        if state.mask is not None:
            state.mask = torch.cat([state.mask, state.mask.new_ones(len(tokens), 1)], dim=1)
        columns = tokens[:, None]
        # One token sees all real ones: the mask in its last form, which the model would work out anew.
        mask = state.mask[:, None, None] if state.mask is not None and self.plain else state.mask
        state.logits, state.cache = self._pass(
            columns, None, mask, state.place[:, None], state.cache, decode=True, owners=state.owners
        )
        state.place = state.place + 1

    def branches(
        self,
        heads: Sequence[Ids],
        tails: Sequence[Sequence[Ids]],
        prefix: Prefix,
        owners: Sequence[int] | None = None,
    ) -> Tensor:
        """Logits (N, V) of rows that go on in several ways: after each head, then along each of its tails.

        A row is the head and then all its tails but their last tokens; a mask keeps tails from seeing each other. Only
        where the model is `plain`, as the mask says who sees whom.

        Returns:
            For one row after the other: the logits after the head, then for each tail those after each of its tokens
            but the last.
        """
        known = prefix.length
        inner = [[tail[:-1] for tail in some] for some in tails]
        ids, real = pad(
            [np.concatenate([head[known:], *some]) for head, some in zip(heads, inner, strict=True)],
            left=False,
            fill=self._fill,
        )
        branch = np.zeros(ids.shape, dtype=np.int64)
        places = np.zeros(ids.shape, dtype=np.int64)
        wanted = []
        for row, (head, some) in enumerate(zip(heads, inner, strict=True)):
            start = len(head) - known
            places[row, :start] = np.arange(known, len(head))
            wanted.append(row * ids.shape[1] + np.arange(start - 1, start + sum(map(len, some))))
            for number, tail in enumerate(some, 1):
                branch[row, start : start + len(tail)] = number
                places[row, start : start + len(tail)] = np.arange(len(head), len(head) + len(tail))
                start += len(tail)
        if real is not None:
            branch[~real] = -1  # padding sees the head and itself: a row that sees nothing would be NaN
        branches, width = self.tensor(branch), ids.shape[1]
        allowed = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
        mask = torch.cat([allowed.new_ones(len(heads), width, known), allowed.tril()], dim=2)
        cache = None
        if prefix.cache is not None:
            cache = copy.deepcopy(prefix.cache)
            cache.batch_repeat_interleave(len(heads))
        wanted_at = self.tensor(np.concatenate(wanted))
        positions, whose = self.tensor(places), self._owning(owners)
        decode = cache is not None
        return self._pass(self.tensor(ids), wanted_at, mask[:, None], positions, cache, decode=decode, owners=whose)[0]

    def _owning(self, owners: Sequence[int] | None) -> Tensor | None:
        return None if owners is None else self.tensor(np.asarray(owners, dtype=np.int64))

    def _pass(
        self,
        tokens: Tensor,
        wanted: Tensor | None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
        *,
        decode: bool = False,
        owners: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Logits (N, V) at `wanted` (indices into the flattened (B, T); None: all), and the cache after `tokens`."""
        if owners is not None:
            if positions is None:  # for each row, where a model would count them once for all
                positions = torch.arange(tokens.shape[1], device=self._device).expand(tokens.shape)
            self.owners.rows = owners
            self.owners.wanted = None if wanted is None else owners[wanted // tokens.shape[1]]
        kwargs: dict[str, Any] = {"use_cache": decode}
        if cache is not None:
            kwargs["past_key_values"] = cache
        if positions is not None and self._positional:
            kwargs["position_ids"] = positions
        self._wanted, self._shape = wanted, (len(tokens), tokens.shape[1])
        try:
            out = self._model(input_ids=tokens, attention_mask=mask, **kwargs)
        finally:
            self._wanted = None
        logits = out.logits.flatten(0, 1)
        return logits, out.past_key_values if decode else None

    def _only_wanted(self, _module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Before the output layer and the last feed-forward block: keep the hidden states (1, N, H) that are wanted.

        A hook rather than `logits_to_keep`, which takes the same positions for all rows and not every model has;
        whatever a model does to its logits afterwards (scales, soft caps) still happens.
        """
        if self._wanted is None or not args:
            return args
        hidden, *rest = args
        return (hidden.reshape(-1, hidden.shape[-1])[self._wanted][None], *rest)

    def _at_their_places(self, _module: torch.nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """After the last feed-forward block: (1, N, H) back in (B, T, H); what stands elsewhere is not looked at."""
        if self._wanted is None or not args:
            return out
        rows, width = self._shape
        whole = out.new_zeros(rows * width, out.shape[-1])
        whole[self._wanted] = out[0]
        return whole.view(rows, width, -1)

    def _last(self, tokens: Tensor) -> Tensor:
        """Flat index (B,) of the last position of each row of (B, T)."""
        rows, width = tokens.shape
        return torch.arange(rows, device=self._device) * width + (width - 1)


def _last_block(model: Any) -> torch.nn.Module | None:
    """The feed-forward block of the last layer, if it is one that treats every token by itself.

    Nothing but the output layer comes after it, so only tokens whose logits are wanted must go through it: two thirds
    of a layer. None where it is not the gated block of the Llama family (a mixture of experts, say).
    """
    layers = getattr(model.get_decoder(), "layers", None)
    block = getattr(layers[-1], "mlp", None) if layers is not None and len(layers) else None
    parts = [getattr(block, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    return block if all(isinstance(part, torch.nn.Linear) for part in parts) else None


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


def logprobs(logits: Tensor, places: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Natural log-probability (M,), float32, of `targets` (M,) by the rows `places` (M,) of logits (N, V).

    And whether each is the argmax of its row.

    Raises:
        FloatingPointError: see `best`.
    """
    chosen = best(logits)
    # In parts: a whole (N, V) copy in float32 would be the largest tensor of the pass. The logarithm of a row's total
    # is taken from `log_softmax`, in one pass, where `logsumexp` takes several.
    parts = torch.split(logits, 256)
    totals = torch.cat([part.amax(dim=-1).float() - part.float().log_softmax(dim=-1).amax(dim=-1) for part in parts])
    return logits[places, targets].float() - totals[places], chosen[places] == targets
