"""Prompts and answers as token ids, through the chat template where there is one; remembered between candidates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._errors import InputError, some

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
        #: Whether the tokenizer has a chat template.
        self.template = bool(getattr(tokenizer, "chat_template", None))
        self._start = tokenizer.bos_token or ""
        self._known: OrderedDict[tuple[str, str | None, bool], tuple[Ids, Ids]] = OrderedDict()
        self._tokens = 0

    def prompt(self, prompt: str, *, chat: bool = True) -> Ids:
        """Ids of the prompt as the model sees it: one user turn and the start of the answer, or the bare text.

        Without `chat`, and where there is no template, it is the bare text behind a start token. An empty text is the
        start token alone, or an end token where the tokenizer knows no start.
        """
        return self._remember((prompt, None, chat), lambda: (self._head(prompt, self._chat(chat)), _NONE))[0]

    def pair(self, prompt: str, answer: str, *, chat: bool = True) -> tuple[Ids, Ids]:
        """Ids of the prompt, and of the answer that a model trained on this template would give, without its end.

        The answer is what the template writes for the assistant's turn (some put a space first), up to the first end
        token. Without a template the answer follows the prompt directly: one that needs a space begins with it.
        """
        return self._remember((prompt, answer, chat), lambda: self._pair(prompt, answer, self._chat(chat)))

    def texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Responses as text, without special tokens."""
        if not rows:
            return []  # batch_decode of nothing is [""]
        decoded: list[str] = self._tokenizer.batch_decode(
            [list(row) for row in rows], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return decoded

    def _chat(self, wanted: bool) -> bool:
        return wanted and self.template

    def _head(self, prompt: str, chat: bool) -> Ids:
        if chat:
            return self._plain(self._opening(prompt))
        ids = self._bare(prompt)
        if len(ids):
            return ids
        start = self._tokenizer.bos_token_id
        return np.asarray([min(self._ends) if start is None else start], dtype=np.int32)

    def _pair(self, prompt: str, answer: str, chat: bool) -> tuple[Ids, Ids]:
        head = self._head(prompt, chat)
        if chat:
            opening, tail = self._opening(prompt), answer
            both = self.render([_turn("user", prompt), _turn("assistant", answer)], more=False)
            # Templates that rewrite earlier turns (some drop or add a thinking block) do not continue their own
            # opening; there the bare answer is the best guess of what a model writes.
            tail = both[len(opening) :] if both.startswith(opening) else answer
            whole = self._plain(opening + tail)
        else:
            tail, whole = answer, self._bare(prompt + answer)
        # Tokens may merge across the seam; generation starts from the prompt's own tokens, so they win.
        continues = len(whole) >= len(head) and bool((whole[: len(head)] == head).all())
        ids = whole[len(head) :] if continues else self._plain(tail)
        end = next((index for index, token in enumerate(ids.tolist()) if token in self._ends), len(ids))
        return head, ids[:end]

    def _opening(self, prompt: str) -> str:
        return self.render([_turn("user", prompt)], more=True)

    def render(self, turns: Sequence[Mapping[str, str]], *, more: bool) -> str:
        """What the template writes for turns; with `more` the start of an answer too."""
        text: str = self._tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=more)
        return text

    def _plain(self, text: str) -> Ids:
        """Ids of a text that holds its own special tokens, as a template writes them."""
        return np.asarray(self._tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)

    def _bare(self, text: str) -> Ids:
        """Ids of a bare text with the tokenizer's start token, unless the text begins with one (lm-eval's rule)."""
        written = bool(self._start) and text.startswith(self._start)
        ids = self._tokenizer(text, add_special_tokens=not written)["input_ids"]
        # Some tokenizers put an end token behind every text; nothing could be said after it.
        while ids and ids[-1] in self._ends and len(ids) > 1 and not written:
            ids = ids[:-1]
        return np.asarray(ids, dtype=np.int32)

    def _remember(self, key: tuple[str, str | None, bool], make: Callable[[], tuple[Ids, Ids]]) -> tuple[Ids, Ids]:
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


def check_fits(context: int | None, prompts: Sequence[str], widths: Sequence[int], what: str) -> None:
    """Refuse prompts that do not fit; nothing is ever cut.

    Args:
        context: most tokens; None if there is no limit.
        prompts: for the message.
        widths: tokens that each needs.
        what: that they need it for.

    Raises:
        InputError: counting and naming them.
    """
    over = [] if context is None else [index for index, width in enumerate(widths) if width > context]
    if over:
        named = some([f'"{prompts[index][:40]}" ({widths[index]})' for index in over])
        raise InputError(
            f"{len(over)} of {len(widths)} prompts{what} are longer than the model's context of {context} tokens: "
            f"{named}; shorten or remove them"
        )


def shared_prefix(rows: Sequence[Ids]) -> int:
    """How many first ids all rows have in common; at least one id of every row is left out of it."""
    if len(rows) < 2:
        return 0
    # The ends of the sorted order differ as early as any two rows do.
    first, last = min(rows, key=lambda ids: ids.tolist()), max(rows, key=lambda ids: ids.tolist())
    length = min(min(len(row) for row in rows) - 1, len(first), len(last))
    differs = np.flatnonzero(first[:length] != last[:length])
    return int(differs[0]) if len(differs) else max(0, length)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


_NONE: Ids = np.zeros(0, dtype=np.int32)
