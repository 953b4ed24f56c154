"""Text to token batches: loss on the completion only, and a count of what was trained on."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

TALLY = ("samples", "tokens", "loss_tokens", "truncated")
"""What is counted for each source; ``tokens`` and ``loss_tokens`` are without padding."""

IGNORED = -100


def encoder(
    tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Callable[[Mapping[str, list[Any]]], dict[str, list[Any]]]:
    """A transform of rows (prompt, completion, source) to rows (input_ids, labels, source, truncated).

    The same sequences as TRL's own preparation (a test compares them), but made when a row is read: nothing is
    tokenized before the first step, nothing is written to disk, and memory does not grow with the data.
    With a chat template, texts become a user and an assistant message; without one, prompt and completion are
    joined as they are and the end-of-sequence token is added.
    """
    template = tokenizer.chat_template is not None

    def encode(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        if template:
            prompts = [_messages(prompt, "user") for prompt in rows["prompt"]]
            answers = [_messages(answer, "assistant") for answer in rows["completion"]]
            heads = tokenizer.apply_chat_template(prompts, tokenize=False, add_generation_prompt=True)
            wholes = tokenizer.apply_chat_template(
                [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], tokenize=False
            )
        else:
            end = cast(str, tokenizer.eos_token)
            heads = [str(prompt) for prompt in rows["prompt"]]
            wholes = [
                head + (answer if answer.endswith(end) else answer + end)
                for head, answer in zip(heads, rows["completion"], strict=True)
            ]
        special = not template  # a template writes its own special tokens
        head_ids = tokenizer(heads, add_special_tokens=special)["input_ids"]
        whole_ids = tokenizer(wholes, add_special_tokens=special)["input_ids"]
        labels = []
        for head, whole in zip(head_ids, whole_ids, strict=True):
            shared = _common_prefix(head, whole)
            labels.append([IGNORED] * shared + whole[shared:])
        return {
            "input_ids": [ids[:max_length] for ids in whole_ids],
            "labels": [ids[:max_length] for ids in labels],
            "source": list(rows["source"]),
            "truncated": [int(len(ids) > max_length) for ids in whole_ids],
        }

    return encode


class TallyingCollator:
    """TRL's padding, plus ``tally``: an int64 tensor (sources, len(TALLY)) of what the batch holds."""

    def __init__(self, pad_token_id: int, sources: int) -> None:
        self.pad = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
        self.sources = sources

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        tally = torch.zeros(self.sources, len(TALLY), dtype=torch.int64)
        for row in rows:
            trained = sum(label != IGNORED for label in row["labels"])
            tally[row["source"]] += torch.tensor([1, len(row["input_ids"]), trained, row["truncated"]])
        batch = self.pad([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])
        return {**batch, "tally": tally}


def _messages(value: Any, role: str) -> list[dict[str, str]]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)


def _common_prefix(left: list[int], right: list[int]) -> int:
    for place, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return place
    return min(len(left), len(right))
