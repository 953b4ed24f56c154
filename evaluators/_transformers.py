"""The transformers engine: one live model, greedy answers and teacher-forced matches in length-sorted batches.

Why an own decode loop: on the demo model (0.56 M parameters, one CPU thread, 900 prompts, 16 new tokens) it takes two
thirds of the time of `model.generate` with the same batches; the rest goes into per-step Python there. Tried and not
kept, as they changed nothing or lost: a preallocated cache instead of the library's growing one, eager attention.

Shapes: B rows of a batch, T tokens of a padded row, N positions with logits, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from ._engine import Stop
from ._errors import InputError, some
from ._load import Loaded, load_model
from ._tokens import Encoder, Ids, batches, pad

COMPACT_AT = 0.75
"""Rows leave the batch once at most this share is unfinished: dropping them copies the whole KV cache."""

CPU_PASS = 2_048
"""Most tokens of one teacher-forced pass on a CPU; activations of more leave the cache (8,192: a quarter slower)."""

LOGIT_VALUES = 1 << 28
"""Most logits of one forward pass (1 GiB in float32): a vocabulary of 256 k leaves 1,024 positions."""


def transformers_engine(
    path: str, *, dtype: str, device: str = "auto", batch_tokens: int | None = None, threads: int = 1
) -> TransformersEngine:
    """Load a checkpoint for scoring.

    Args:
        path: directory or hub id; safetensors only, no code of the checkpoint is run.
        dtype: "float32", "bfloat16" or "float16": the type of the live weights and of all arithmetic.
        device: "auto" (a CUDA device if there is one), "cpu", "cuda", "cuda:1", ...
        batch_tokens: most tokens of a batch, padding and room for new tokens included; None is 8,192 on a CPU
            and 65,536 elsewhere.
        threads: torch threads of this process; used on a CPU only, and global to the process.

    Raises:
        InputError: no such checkpoint, not safetensors, weights missing in it, no tokenizer, no end token, an unknown
            dtype or device.
    """
    loaded = load_model(path, dtype=dtype, device=device)
    if loaded.device.type == "cpu":
        torch.set_num_threads(threads)
    if batch_tokens is None:
        batch_tokens = 8_192 if loaded.device.type == "cpu" else 65_536
    return TransformersEngine(loaded, batch_tokens)


class TransformersEngine:
    """See `_engine.Engine`. Decoding is plain greedy: penalties in a generation config are not applied."""

    def __init__(self, loaded: Loaded, batch_tokens: int) -> None:
        self._loaded = loaded
        self._model = loaded.model
        self._batch_tokens = batch_tokens
        self._pass_tokens = min(batch_tokens, CPU_PASS) if loaded.device.type == "cpu" else batch_tokens
        self._encoder = Encoder(loaded.tokenizer, loaded.ends)
        self._ends = torch.tensor(loaded.ends, device=loaded.device)
        self._positional = "position_ids" in inspect.signature(self._model.forward).parameters
        self._wanted: Tensor | None = None
        head = self._model.get_output_embeddings()
        self._logits = max(1, LOGIT_VALUES // int(head.weight.shape[0]))
        head.register_forward_pre_hook(self._only_wanted)

    def weights(self) -> dict[str, Tensor]:
        """See `Engine.weights`. The tensors are the model's own; writing needs no gradient guard."""
        return self._loaded.weights()

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Stop | None = None) -> list[str]:
        """See `Engine.generate`."""
        rows = [self._encoder.prompt(prompt) for prompt in prompts]
        widths = [len(row) + max_new_tokens for row in rows]
        self._check(prompts, widths, f" with {max_new_tokens} new tokens")
        responses = [""] * len(rows)
        for group in batches(widths, [1] * len(rows), tokens=self._batch_tokens, logits=self._logits):
            asked = None if stop is None else _renumbered(stop, group)
            decoded = self._decode([rows[index] for index in group], max_new_tokens, asked)
            for index, text in zip(group, self._encoder.texts(decoded), strict=True):
                responses[index] = text
        return responses

    def matches(self, prompts: Sequence[str], answers: Sequence[str]) -> list[bool]:
        """See `Engine.matches`.

        One pass over prompt and answer: greedy decoding reproduces an answer exactly if and only if every answer
        token, and an end token after the last, is the argmax given the true tokens before it.
        """
        pairs = [self._encoder.pair(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        widths = [len(prompt) + len(answer) for prompt, answer in pairs]
        self._check(prompts, widths, " with the answer")
        heads = [len(answer) + 1 for _, answer in pairs]
        found = [False] * len(pairs)
        for group in batches(widths, heads, tokens=self._pass_tokens, logits=self._logits):
            for index, same in zip(group, self._match([pairs[index] for index in group]), strict=True):
                found[index] = same
        return found

    def close(self) -> None:
        """See `Engine.close`."""
        device = self._loaded.device
        del self._model, self._loaded
        if device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _match(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[bool]:
        # Padding on the right: causal attention never looks there, so no mask is needed and the fast kernel applies.
        ids, _ = pad([np.concatenate(pair) for pair in pairs], left=False, fill=self._loaded.fill)
        width = ids.shape[1]
        wanted = [
            row * width + np.arange(len(prompt) - 1, len(prompt) + len(answer))
            for row, (prompt, answer) in enumerate(pairs)
        ]
        best = self._forward(self._tensor(ids), wanted=self._tensor(np.concatenate(wanted)))[0]
        ended = torch.isin(best, self._ends).cpu().numpy()
        best_ids = best.cpu().numpy()
        end = np.cumsum([len(answer) + 1 for _, answer in pairs]) - 1
        return [
            bool(ended[last]) and bool((best_ids[last - len(answer) : last] == answer).all())
            for last, (_, answer) in zip(end.tolist(), pairs, strict=True)
        ]

    @torch.inference_mode()
    def _decode(self, prompts: Sequence[Ids], limit: int, stop: Stop | None) -> list[list[int]]:
        ids, real = pad(prompts, left=True, fill=self._loaded.fill)
        tokens = self._tensor(ids)
        mask = None if real is None else self._tensor(real)
        place = self._tensor(np.asarray([len(row) for row in prompts]))
        rows = torch.arange(len(prompts), device=tokens.device)
        alive = torch.ones_like(rows, dtype=torch.bool)
        written = torch.full((len(prompts), limit), self._loaded.fill, device=tokens.device)
        lengths = torch.zeros_like(rows)
        positions = (torch.arange(tokens.shape[1], device=tokens.device) - tokens.shape[1] + place[:, None]).clamp(
            min=0
        )
        best, cache = self._forward(tokens, mask=mask, positions=positions, wanted=self._last(tokens), decode=True)
        for step in range(1, limit + 1):
            alive &= ~torch.isin(best, self._ends)
            written[rows, step - 1] = best
            lengths[rows] += alive
            if step == limit:
                break
            # Asking costs a decode of every text, so ask after 2, 4, 8, ... tokens: at most half of the work is wasted.
            if stop is not None and step > 1 and step & (step - 1) == 0:
                self._ask(stop, rows, alive, written[:, :step])
            left = int(alive.sum())
            if left == 0:
                break
            if left <= COMPACT_AT * len(alive) and all(isinstance(layer, DynamicLayer) for layer in cache.layers):
                keep = alive.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                rows, alive, best, place = rows[keep], alive[keep], best[keep], place[keep]
                mask = None if mask is None else mask[keep]
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            best, cache = self._forward(
                best[:, None],
                mask=mask,
                positions=place[:, None],
                cache=cache,
                wanted=self._last(rows[:, None]),
                decode=True,
            )
            place = place + 1
        return [row[:length] for row, length in zip(written.tolist(), lengths.tolist(), strict=True)]

    def _ask(self, stop: Stop, rows: Tensor, alive: Tensor, written: Tensor) -> None:
        """Clear `alive` (B,) where `stop` says that more text changes nothing."""
        asked = alive.nonzero()[:, 0]
        indices = rows[asked]
        texts = self._encoder.texts(written[indices].tolist())
        # A character that is still incomplete decodes to U+FFFD.
        decided = [stop(index, text.rstrip("\ufffd")) for index, text in zip(indices.tolist(), texts, strict=True)]
        alive[asked] = ~torch.tensor(decided, dtype=torch.bool, device=alive.device)

    def _forward(
        self,
        tokens: Tensor,
        *,
        wanted: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
        decode: bool = False,
    ) -> tuple[Tensor, Any]:
        """Argmax (N,) at `wanted` (indices into the flattened (B, T)) and the cache after `tokens` (B, T)."""
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
        best = out.logits[0].max(dim=-1)  # a NaN anywhere in a row becomes its maximum
        broken = int((~torch.isfinite(best.values)).sum())
        if broken:
            # The argmax of NaNs is a token like any other: without this, broken weights would get a score.
            raise FloatingPointError(f"the logits of {broken} of {len(best.values)} positions are not finite")
        return best.indices, out.past_key_values if decode else None

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
        return torch.arange(rows, device=self._loaded.device) * width + (width - 1)

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self._loaded.device)

    def _check(self, prompts: Sequence[str], widths: Sequence[int], what: str) -> None:
        context = self._loaded.context
        if context is None:
            return
        over = [index for index, width in enumerate(widths) if width > context]
        if over:
            named = some([f'"{prompts[index][:40]}" ({widths[index]})' for index in over])
            raise InputError(
                f"{len(over)} of {len(widths)} prompts{what} are longer than the model's context of {context} tokens: "
                f"{named}; shorten or remove them"
            )


def _renumbered(stop: Stop, group: Sequence[int]) -> Callable[[int, str], bool]:
    return lambda row, text: stop(group[row], text)
