"""The transformers engine: one live model, responses and likelihoods in length-sorted batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._decoding import Decoder, cut, until
from ._engine import Likelihood, Sampling, Stop
from ._errors import InputError
from ._forward import Forward, Prefix, best, logprobs
from ._linear import by_onednn
from ._load import Loaded, load_model
from ._several import Candidates, parts, several
from ._tokens import Encoder, Ids, batches, check_fits, shared_prefix

CPU_PASS = 2_048
"""Most tokens of one teacher-forced pass on a CPU; activations of more leave the cache (8,192: a quarter slower)."""

LOGIT_VALUES = 1 << 28
"""Most logits of one forward pass (1 GiB in float32): a vocabulary of 256 k leaves 1,024 positions."""

BRANCHES = 512
"""Most tokens of continuations in one row: they do not see each other, yet attention is worked out for all."""

PREFIX = 16
"""Fewest tokens that all prompts must share for a pass of their own; below it, the pass costs what it saves."""


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
        by_onednn(loaded.model)
    if batch_tokens is None:
        batch_tokens = 8_192 if loaded.device.type == "cpu" else 65_536
    return TransformersEngine(loaded, batch_tokens)


class TransformersEngine:
    """See `_engine.Engine`. Penalties in a generation config are not applied."""

    def __init__(self, loaded: Loaded, batch_tokens: int) -> None:
        self._loaded = loaded
        self._batch_tokens = batch_tokens
        self._pass_tokens = min(batch_tokens, CPU_PASS) if loaded.device.type == "cpu" else batch_tokens
        self._encoder = Encoder(loaded.tokenizer, loaded.ends)
        self._ends = torch.tensor(loaded.ends, device=loaded.device)
        self._forward = Forward(loaded)
        self._decoder = Decoder(self._forward, self._encoder, self._ends, loaded.fill)
        self._logits = max(1, LOGIT_VALUES // self._forward.vocabulary)
        self._tokens = 0
        self._candidates = 0

    @property
    def tokens(self) -> int:
        """See `Engine.tokens`."""
        return self._tokens

    @property
    def context(self) -> int | None:
        """Most tokens of a sequence; None if the config does not say."""
        return self._loaded.context

    def weights(self) -> dict[str, Tensor]:
        """See `Engine.weights`. The tensors are the model's own; writing needs no gradient guard."""
        return self._loaded.weights()

    def written(self) -> None:
        """See `Engine.written`. The tensors are the live ones: nothing is left to do."""

    @contextmanager
    def several(self, candidates: Candidates) -> Iterator[None]:
        """Until the block ends, the model stands for K candidates at once, each for its own part of the prompts.

        Every call is then given all prompts of the first candidate, then those of the second, and so on, the same
        number for each, and so are its answers. What a candidate answers is what the model answers with that
        candidate's weights written into it, but for the order in which numbers are summed; with `Adapters` in a half
        type also but for the rounding of merged weights, which never come to be.

        Raises:
            InputError: see `_several.several`.
        """
        names = {tensor.data_ptr(): name for name, tensor in self._loaded.weights().items()}
        _ = self._forward.plain  # is found out by a pass of the model itself
        with several(self._loaded.model, names, candidates, self._forward.owners):
            self._candidates = candidates.count
            try:
                yield
            finally:
                self._candidates = 0

    def _owners(self, count: int) -> Sequence[int] | None:
        return parts(count, self._candidates) if self._candidates else None

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Stop | None = None,
        until: Sequence[str] = (),
        sampling: Sampling | None = None,
        chat: bool = True,
    ) -> list[str]:
        """See `Engine.generate`."""
        rows = [self._encoder.prompt(prompt, chat=chat) for prompt in prompts]
        widths = [len(row) + max_new_tokens for row in rows]
        check_fits(self._loaded.context, prompts, widths, f" with {max_new_tokens} new tokens")
        responses = [""] * len(rows)
        prefix, owners = self._prefix(rows), self._owners(len(rows))
        for group in batches(widths, [1] * len(rows), tokens=self._batch_tokens, logits=self._logits):
            group.sort()  # candidate by candidate
            decoded = self._decoder.decode(
                [rows[index] for index in group],
                max_new_tokens,
                _asked(stop, until, group),
                None if sampling is None else _drawn(sampling, group),
                prefix,
                None if owners is None else [owners[index] for index in group],
            )
            self._tokens += sum(len(rows[index]) for index in group) + sum(map(len, decoded))
            for index, text in zip(group, self._encoder.texts(decoded), strict=True):
                responses[index] = cut(text, until)
        return responses

    def loglikelihood(
        self, prompts: Sequence[str], continuations: Sequence[str], *, chat: bool = True
    ) -> list[Likelihood]:
        """See `Engine.loglikelihood`."""
        pairs = [self._encoder.pair(p, c, chat=chat) for p, c in zip(prompts, continuations, strict=True)]
        widths = [len(head) + len(tail) for head, tail in pairs]
        check_fits(self._loaded.context, prompts, widths, " with the continuation")
        self._tokens += sum(widths)
        owners = self._owners(len(pairs))
        same: dict[tuple[int, bytes], list[int]] = {}
        for index, (head, _) in enumerate(pairs):
            same.setdefault((0 if owners is None else owners[index], head.tobytes()), []).append(index)
        # Prompts with several continuations are gone through once, with all of them behind it.
        most = BRANCHES if self._forward.plain else 0
        cases = [part for rows in same.values() for part in _rows(rows, [len(pairs[row][1]) for row in rows], most)]
        prefix = self._prefix([pairs[rows[0]][0] for rows in cases])
        found = [Likelihood(0.0, 0, True)] * len(pairs)
        widths = [len(pairs[rows[0]][0]) + sum(len(pairs[row][1]) for row in rows) for rows in cases]
        heads = [sum(len(pairs[row][1]) for row in rows) + 1 for rows in cases]
        for group in batches(widths, heads, tokens=self._pass_tokens, logits=self._logits):
            chosen = [cases[place] for place in sorted(group)]
            asked = [(pairs[rows[0]][0], [pairs[row][1] for row in rows]) for rows in chosen]
            whose = None if owners is None else [owners[rows[0]] for rows in chosen]
            order = [row for rows in chosen for row in rows]
            for row, likelihood in zip(order, self._likelihoods(asked, prefix, whose), strict=True):
                found[row] = likelihood
        return found

    def matches(self, prompts: Sequence[str], answers: Sequence[str]) -> list[bool]:
        """See `Engine.matches`.

        One pass over prompt and answer: greedy decoding reproduces an answer exactly if and only if every answer
        token, and an end token after the last, is the argmax given the true tokens before it.
        """
        pairs = [self._encoder.pair(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        widths = [len(prompt) + len(answer) for prompt, answer in pairs]
        check_fits(self._loaded.context, prompts, widths, " with the answer")
        self._tokens += sum(widths)
        heads = [len(answer) + 1 for _, answer in pairs]
        found, owners = [False] * len(pairs), self._owners(len(pairs))
        prefix = self._prefix([prompt for prompt, _ in pairs])
        for group in batches(widths, heads, tokens=self._pass_tokens, logits=self._logits):
            group.sort()
            whose = None if owners is None else [owners[index] for index in group]
            for index, same in zip(group, self._match([pairs[index] for index in group], prefix, whose), strict=True):
                found[index] = same
        return found

    def render(self, turns: Sequence[Mapping[str, str]], *, more: bool = True) -> str:
        """See `Engine.render`."""
        if not self._encoder.template:
            raise InputError(f"{self._loaded.path}: has no chat template; leave `chat` out")
        return self._encoder.render(turns, more=more)

    def close(self) -> None:
        """See `Engine.close`."""
        device = self._loaded.device
        del self._forward, self._decoder, self._loaded
        if device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _match(
        self, pairs: Sequence[tuple[Ids, Ids]], prefix: Prefix | None = None, owners: Sequence[int] | None = None
    ) -> list[bool]:
        if prefix is not None and prefix.length:
            # The last token of a branch is not looked at: any will do in place of the end token.
            heads, tails = [prompt for prompt, _ in pairs], [[np.append(answer, 0)] for _, answer in pairs]
            logits = self._forward.branches(heads, tails, prefix, owners)
        else:
            wanted = [np.arange(len(prompt) - 1, len(prompt) + len(answer)) for prompt, answer in pairs]
            logits = self._forward.whole([np.concatenate(pair) for pair in pairs], wanted, owners)
        chosen = best(logits)
        ended = torch.isin(chosen, self._ends).cpu().numpy()
        ids = chosen.cpu().numpy()
        end = np.cumsum([len(answer) + 1 for _, answer in pairs]) - 1
        return [
            bool(ended[last]) and bool((ids[last - len(answer) : last] == answer).all())
            for last, (_, answer) in zip(end.tolist(), pairs, strict=True)
        ]

    @torch.inference_mode()
    def _likelihoods(
        self, cases: Sequence[tuple[Ids, Sequence[Ids]]], prefix: Prefix, owners: Sequence[int] | None
    ) -> list[Likelihood]:
        """Each prompt with its continuations, in one pass."""
        lengths = [len(tail) for _, tails in cases for tail in tails]
        targets = np.concatenate([tail for _, tails in cases for tail in tails]).astype(np.int64)
        if not len(targets):
            return [Likelihood(0.0, 0, True)] * len(lengths)
        if prefix.length == 0 and all(len(tails) == 1 for _, tails in cases):
            # The last token of a continuation predicts nothing that is asked for.
            rows = [np.concatenate([head, tails[0][:-1]]) for head, tails in cases]
            wanted = [len(head) - 1 + np.arange(len(tails[0])) for head, tails in cases]
            logits, places = self._forward.whole(rows, wanted, owners), np.arange(len(targets))
        else:
            heads, branching = [head for head, _ in cases], [tails for _, tails in cases]
            logits = self._forward.branches(heads, branching, prefix, owners)
            places = _places(cases)
        values, greedy = logprobs(logits, self._forward.tensor(places), self._forward.tensor(targets))
        sums, same = values.double().cpu().numpy(), greedy.cpu().numpy()
        ends = np.cumsum(lengths).tolist()
        return [
            Likelihood(float(sums[end - length : end].sum()), length, bool(same[end - length : end].all()))
            for end, length in zip(ends, lengths, strict=True)
        ]

    @torch.inference_mode()
    def _prefix(self, rows: Sequence[Ids]) -> Prefix:
        if self._candidates:
            return Prefix()  # what a prefix leaves behind is each candidate's own
        shared = shared_prefix(rows)
        return self._forward.prefix(rows[0][:shared]) if shared >= PREFIX else Prefix()


def _asked(stop: Stop | None, texts: Sequence[str], group: Sequence[int]) -> Callable[[int, str], bool] | None:
    """What the decoder asks about the rows of a batch."""
    if stop is None:
        return until(texts) if texts else None
    ended = until(texts)
    return lambda row, text: ended(row, text) or stop(group[row], text)


def _drawn(sampling: Sampling, group: Sequence[int]) -> Sampling:
    keys = tuple(sampling.keys[index] for index in group)
    return Sampling(sampling.temperature, sampling.top_p, sampling.seed, keys)


def _rows(rows: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Continuations of one prompt in parts of at most `most` tokens, or of one."""
    found: list[list[int]] = []
    used = 0
    for row, length in zip(rows, lengths, strict=True):
        if found and used + length <= most:
            found[-1].append(row)
            used += length
        else:
            found.append([row])
            used = length
    return found


def _places(cases: Sequence[tuple[Ids, Sequence[Ids]]]) -> NDArray[np.int64]:
    """For each token of each continuation, the row of `Forward.branches` that predicts it."""
    found, start = [], 0
    for _, tails in cases:
        head, start = start, start + 1
        for tail in tails:
            inner = max(0, len(tail) - 1)
            found.append(np.concatenate([[head] * min(1, len(tail)), start + np.arange(inner)]))
            start += inner
    return np.concatenate(found).astype(np.int64)
