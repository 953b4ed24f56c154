"""What a training was trained on: samples and tokens, by source and by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ._encode import IGNORED

TALLY = ("samples", "tokens", "loss_tokens", "truncated")
"""What is counted for each group; ``tokens`` and ``loss_tokens`` are without padding."""


def tally_of(groups: int, rows: Sequence[tuple[int, int, int, int]]) -> torch.Tensor:
    """int64 (groups, len(TALLY)): the sum of `rows` (group, tokens, loss tokens, truncated), one for each sample."""
    tally = torch.zeros(groups, len(TALLY), dtype=torch.int64)
    for group, tokens, trained, truncated in rows:
        tally[group] += torch.tensor([1, tokens, trained, truncated])
    return tally


def counting(trainer: Any) -> Any:
    """`trainer`, a class of TRL, made to add up the ``tally`` of the batches that it trains on, in ``counted``."""

    class Counting(trainer):  # type: ignore[misc]  # the base is a parameter
        counted: torch.Tensor

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            self.counted += inputs.pop("tally").cpu()  # a model would not know it
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    return Counting


class CompletionCollator:
    """TRL's padding, plus ``tally`` (see `tally_of`) and, if asked for, ``group``: (samples,)."""

    def __init__(self, pad_token_id: int, groups: int, *, with_groups: bool = False) -> None:
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        self.pad = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
        self.groups = groups
        self.with_groups = with_groups

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        counts = [
            (row["group"], len(row["input_ids"]), sum(label != IGNORED for label in row["labels"]), row["truncated"])
            for row in rows
        ]
        batch = self.pad([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])
        marks = {"group": torch.tensor([row["group"] for row in rows])} if self.with_groups else {}
        return {**batch, **marks, "tally": tally_of(self.groups, counts)}


class PreferenceCollator:
    """TRL's padding of pairs, plus ``tally``: a pair is one sample, its tokens are those of both sequences."""

    def __init__(self, pad_token_id: int, groups: int, max_length: int) -> None:
        from trl.trainer.dpo_trainer import DataCollatorForPreference

        self.pad = DataCollatorForPreference(pad_token_id=pad_token_id, max_length=max_length)
        self.groups = groups
        self.max_length = max_length

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        counts = []
        for row in rows:
            head = min(len(row["prompt_ids"]), self.max_length)
            lengths = [len(row["prompt_ids"]) + len(row[side]) for side in ("chosen_ids", "rejected_ids")]
            cut = [min(length, self.max_length) for length in lengths]
            counts.append((row["group"], sum(cut), sum(cut) - 2 * head, int(cut != lengths)))
        sides = ("prompt_ids", "chosen_ids", "rejected_ids")
        return {
            **self.pad([{side: row[side] for side in sides} for row in rows]),
            "tally": tally_of(self.groups, counts),
        }


def by_source_and_language(groups: Sequence[tuple[str, str]], counted: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The counts as the record holds them.

    Returns:
        ``tokens``: source -> count of each of TALLY; ``languages``: the same by language, those that the data do not
        name left out; ``shares``: see `shares`.
    """
    sources: dict[str, dict[str, int]] = {}
    languages: dict[str, dict[str, int]] = {}
    for (source, language), counts in zip(groups, counted, strict=True):
        for name, table in ((source, sources), (language, languages)):
            entry = table.setdefault(name, dict.fromkeys(TALLY, 0))
            for key, count in zip(TALLY, counts, strict=True):
                entry[key] += int(count)
    languages.pop("", None)
    # A language that the filter keeps out was never drawn.
    languages = {name: entry for name, entry in languages.items() if entry["samples"]}
    return {"tokens": sources, "languages": languages, "shares": shares(sources)}


def shares(sources: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, float]]:
    """From counts by source: ``samples``, ``tokens`` and ``loss_tokens`` -> source -> exact share of the whole."""
    found = {}
    for key in TALLY[:3]:
        total = sum(entry[key] for entry in sources.values())
        found[key] = {name: entry[key] / total if total else 0.0 for name, entry in sources.items()}
    return found
