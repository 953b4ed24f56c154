"""Prompts and answers as token ids, through the chat template where there is one; remembered between candidates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = NDArray[np.int32]

CACHED_TOKENS = 1 << 24
"""Most token ids kept (64 MiB): the demo's 1,500 items are 20 thousand, so this is a bound and not a tuning knob."""


class Encoder:
    """Text to ids for one tokenizer. Ids do not depend on weights, so they stay valid when weights change."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(ends)
        self._template = bool(getattr(tokenizer, "chat_template", None))
        self._known: OrderedDict[tuple[str, str | None], tuple[Ids, Ids]] = OrderedDict()
        self._tokens = 0

    def prompt(self, prompt: str) -> Ids:
        """Ids of the prompt as the model sees it: one user turn and the start of the answer, or the bare text."""
        return self._remember((prompt, None), lambda: (self._plain(self._opening(prompt), start=True), _NONE))[0]

    def pair(self, prompt: str, answer: str) -> tuple[Ids, Ids]:
        """Ids of the prompt, and of the answer that a model trained on this template would give, without its end.

        The answer is what the template writes for the assistant's turn (some put a space first), up to the first end
        token. Without a template the answer follows the prompt directly: one that needs a space begins with it.
        """
        return self._remember((prompt, answer), lambda: self._pair(prompt, answer))

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Responses as text, without special tokens."""
        if not rows:
            return []  # batch_decode of nothing is [""]
        decoded: list[str] = self._tokenizer.batch_decode(
            [list(row) for row in rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return decoded

    def _pair(self, prompt: str, answer: str) -> tuple[Ids, Ids]:
        opening = self._opening(prompt)
        head = self.prompt(prompt)
        tail = answer
        if self._template:
            both = self._render([_turn("user", prompt), _turn("assistant", answer)], more=False)
            # Templates that rewrite earlier turns (some drop or add a thinking block) do not continue their own
            # opening; there the bare answer is the best guess of what a model writes.
            tail = both[len(opening) :] if both.startswith(opening) else answer
        whole = self._plain(opening + tail, start=True)
        # Tokens may merge across the seam; generation starts from the prompt's own tokens, so they win.
        continues = len(whole) >= len(head) and bool((whole[: len(head)] == head).all())
        ids = whole[len(head) :] if continues else self._plain(tail, start=False)
        end = next((index for index, token in enumerate(ids.tolist()) if token in self._ends), len(ids))
        return head, ids[:end]

    def _opening(self, prompt: str) -> str:
        return self._render([_turn("user", prompt)], more=True) if self._template else prompt

    def _render(self, turns: list[dict[str, str]], *, more: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=more)
        return text

    def _plain(self, text: str, *, start: bool) -> Ids:
        # A template writes its own special tokens; bare text gets the tokenizer's (a start token) at its start.
        special = start and not self._template
        return np.asarray(self._tokenizer(text, add_special_tokens=special)["input_ids"], dtype=np.int32)

    def _remember(self, key: tuple[str, str | None], make: Callable[[], tuple[Ids, Ids]]) -> tuple[Ids, Ids]:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = make()
            self._tokens += len(found[0]) + len(found[1])
            while self._tokens > CACHED_TOKENS and len(self._known) > 1:
                _, (head, tail) = self._known.popitem(last=False)
                self._tokens -= len(head) + len(tail)
        return found


def batches(widths: Sequence[int], heads: Sequence[int], *, tokens: int, logits: int) -> list[list[int]]:
    """Indices grouped by similar width, widest first, so that padding is small and a lack of memory shows at once.

    Args:
        widths: tokens that each row needs.
        heads: positions of each row whose logits are computed.
        tokens: most tokens of a batch, padding included (a single wider row still makes a batch).
        logits: most positions with logits in a batch.
    """
    groups: list[list[int]] = []
    used = 0
    for index in sorted(range(len(widths)), key=lambda row: (-widths[row], row)):
        group = groups[-1] if groups else []
        if group and widths[group[0]] * (len(group) + 1) <= tokens and used + heads[index] <= logits:
            group.append(index)
            used += heads[index]
        else:
            groups.append([index])
            used = heads[index]
    return groups


def pad(rows: Sequence[Ids], *, left: bool, fill: int) -> tuple[Any, Any]:
    """Rows of ids in one rectangle.

    Returns:
        (rows, width) int64 ids, and the bool mask of real tokens or None where nothing is padded.
    """
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), fill, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.bool_)
    for index, row in enumerate(rows):
        place = slice(width - len(row), None) if left else slice(len(row))
        ids[index, place] = row
        mask[index, place] = True
    return ids, None if mask.all() else mask


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


_NONE: Ids = np.zeros(0, dtype=np.int32)
