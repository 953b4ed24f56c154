"""Prompts that do not fit a model's context, found from its tokenizer and config alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ._errors import some
from ._types import Asking, Evaluator, Item, Room

TEMPLATE = 64
"""Tokens that a chat template may add: a guess, used only to skip the tokenizer where nothing can be too long."""


def too_long(model: str, evaluator: Evaluator, items: Sequence[Item]) -> str | None:
    """Why some items do not fit the context, counted and named, or None. Nothing is ever cut: such items are refused.

    Args:
        model: directory of the model.
        evaluator: one that says what it will ask (`_types.Asking`); of others nothing is known.
        items: its items.
    """
    context = _context(model)
    if context is None or not isinstance(evaluator, Asking):
        return None
    rooms = [(item, evaluator.room(item)) for item in items]
    # A token is at least one byte.
    suspects = [(item, room) for item, room in rooms if _bytes(item, room) + room.new_tokens + TEMPLATE > context]
    if not suspects:
        return None
    try:
        encoder = _encoder(model)
    except Exception:  # whatever a broken tokenizer raises; that it is broken is for those to say who load the model
        return None
    over = []
    for item, room in suspects:
        widths = [len(encoder.prompt(item.prompt, chat=room.chat)) + room.new_tokens] if not room.continuations else []
        for text in room.continuations:
            prompt = "" if text is item.prompt else item.prompt
            widths.append(sum(map(len, encoder.pair(prompt, text, chat=room.chat))))
        if max(widths, default=0) > context:
            over.append(f"{item.id} ({max(widths)})")
    if not over:
        return None
    return (
        f"{evaluator.kind}: {len(over)} of {len(items)} prompts, with what is asked about them, are longer than the "
        f"model's context of {context} tokens: {some(over)}; shorten or remove them, or lower max_new_tokens"
    )


def _bytes(item: Item, room: Room) -> int:
    return len(item.prompt.encode()) + max((len(text.encode()) for text in room.continuations), default=0)


def _context(model: str) -> int | None:
    file = Path(model) / "config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    found = config.get("max_position_embeddings", (config.get("text_config") or {}).get("max_position_embeddings"))
    return found if isinstance(found, int) else None


@lru_cache(maxsize=1)
def _encoder(model: str) -> Any:
    from ._tokens import Encoder

    tokenizer: Any
    if (Path(model) / "tokenizer.json").is_file():
        # The general class reads the same file without loading torch, which takes a check five times as long.
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    ends = tokenizer.eos_token_id
    return Encoder(tokenizer, () if ends is None else (ends,))
