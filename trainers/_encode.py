"""Text to tokens: where the prompt ends, which tokens the loss is taken on, where a sequence is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from ._errors import InputError

IGNORED = -100

Encoder = Callable[[Mapping[str, list[Any]]], dict[str, list[Any]]]
"""A transform of rows, applied when they are read."""


def completions(tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoder:
    """Rows (prompt and response, or messages; group) to rows (input_ids, labels, group, truncated).

    The same sequences as TRL's own preparation (a test compares them), but made when a row is read: nothing is
    tokenized before the first step, nothing is written to disk, and memory does not grow with the data.
    With a chat template, texts become a user and an assistant message; without one, prompt and response are
    joined as they are and the end-of-sequence token is added. Of messages, every turn of the assistant is trained on.

    Raises:
        InputError: messages and no chat template, or one that writes a turn otherwise once another follows.
    """

    def encode(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        if "messages" in rows:
            found = [conversation(tokenizer, messages) for messages in rows["messages"]]
        else:
            heads, wholes = joined(tokenizer, rows["prompt"], rows["response"])
            found = []
            for head, whole in zip(heads, wholes, strict=True):
                shared = common_prefix(head, whole)
                found.append((whole, [IGNORED] * shared + whole[shared:]))
        return {
            "input_ids": [ids[:max_length] for ids, _ in found],
            "labels": [labels[:max_length] for _, labels in found],
            "group": list(rows["group"]),
            "truncated": [int(len(ids) > max_length) for ids, _ in found],
        }

    return encode


def joined(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Any], responses: Sequence[Any]
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of prompts, and of prompts with their responses; each a text or a list of messages."""
    if tokenizer.chat_template is not None:
        asked = [as_messages(prompt, "user") for prompt in prompts]
        answers = [as_messages(answer, "assistant") for answer in responses]
        heads = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        wholes = tokenizer.apply_chat_template(
            [prompt + answer for prompt, answer in zip(asked, answers, strict=True)], tokenize=False
        )
    else:
        end = cast(str, tokenizer.eos_token)
        heads = [_text(prompt) for prompt in prompts]
        wholes = [
            head + (answer if answer.endswith(end) else answer + end)
            for head, answer in zip(heads, map(_text, responses), strict=True)
        ]
    special = tokenizer.chat_template is None  # a template writes its own special tokens
    return (
        tokenizer(heads, add_special_tokens=special)["input_ids"],
        tokenizer(wholes, add_special_tokens=special)["input_ids"],
    )


def conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and labels: the ids of the assistant's turns, `IGNORED` elsewhere.

    A turn is what the template adds to the generation prompt before it: the words and the end of the turn.

    Raises:
        InputError: no chat template, or one that writes a turn otherwise once another follows.
    """
    if tokenizer.chat_template is None:
        raise InputError("the model has no chat template, so messages cannot be written; give prompt and response")
    turns = as_messages(messages, "user")
    whole = _rendered(tokenizer, turns)
    labels = [IGNORED] * len(whole)
    for place, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        start = common_prefix(_rendered(tokenizer, turns[:place], add_generation_prompt=True), whole)
        upto = _rendered(tokenizer, turns[: place + 1])
        end = common_prefix(upto, whole)
        if end < len(upto):
            raise InputError(
                "the model's chat template writes a turn of the assistant otherwise once another turn follows; "
                "cut conversations into prompt and response"
            )
        labels[start:end] = whole[start:end]
    return whole, labels


def as_messages(value: Any, role: str) -> list[dict[str, str]]:
    """A text as one message of `role`; a list of messages as it is."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return [{"role": message["role"], "content": message["content"]} for message in value]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both start with."""
    for place, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return place
    return min(len(left), len(right))


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], **options: Any) -> list[int]:
    text = tokenizer.apply_chat_template(turns, tokenize=False, **options)
    return cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError("the model has no chat template, so messages cannot be written; give texts")
    return value
