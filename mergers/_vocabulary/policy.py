"""Which vocabulary a merged model has, when its inputs' vocabularies differ.

Tokens are matched by their text. Policies: `same` refuses models that differ; `base` takes the base's
tokenizer; `union` adds to it the tokens that only others have; a path takes that model's tokenizer. Rows follow
mergekit 0.1.5 (see `_rows`), with one difference: padding (rows beyond the tokenizer, as in Qwen's checkpoints)
is kept unless `pad_to_multiple_of` is given; such a row is each model's own where it is padding there too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checkpoint.checkpoint import open_checkpoint
from .._checkpoint.hub import resolve
from .._errors import InputError
from .rows import OWN_MEAN, RowMap, donors, sources
from .same_tokens import row_count, same_tokens, with_rows
from .tokenizer import Tokens, copy_tokenizer, read_tokens, set_added, union

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Vocabulary:
    """The output's vocabulary, and how each model's rows reach it.

    Attributes:
        rows: of embedding and head of the output; goes into `config.json` as `vocab_size`.
        tokens: token -> row of the output; empty where no `tokenizer.json` tells.
        notes: what was done, a line each.
        map: of rows.
        origin: directory of the tokenizer that the output's is, or is made of.
        added: the added tokens of the output's tokenizer where they are not `origin`'s, else None.
    """

    rows: int
    tokens: Mapping[str, int]
    notes: tuple[str, ...]
    map: RowMap
    origin: Path
    added: Mapping[str, Mapping[str, Any]] | None = None

    def covers(self, name: str) -> bool:
        """Whether tensor `name` has a row for each token."""
        heads = [name for model in self.map.models for name in (model.embedding, model.head) if name]
        return name in heads or name in [head.removesuffix("weight") + "bias" for head in heads]

    def unchanged(self, model: int) -> bool:
        """Whether that model's embedding and head are the output's, row by row."""
        own = self.map.sources[model]
        return row_count(self.map.models[model]) == self.rows and bool((own == np.arange(self.rows)).all())

    def tensor(self, model: int, name: str, stored: Tensor) -> Tensor:
        """Tensor `name` of a model in the output's vocabulary.

        Args:
            model: index of the model.
            name: of an embedding or head.
            stored: that tensor of the model (for a head that it ties: the embedding), float32, `(its rows, ...)`.

        Returns:
            float32 `(rows, ...)`; `stored` itself where nothing changes.
        """
        return stored if self.unchanged(model) else self.map.block(model, name, 0, self.rows, stored)

    def block(self, model: int, name: str, start: int, stop: int) -> Tensor:
        """Rows `[start, stop)` of `tensor`, read from the file: for merging without whole tensors in memory."""
        return self.map.block(model, name, start, stop)

    def write_tokenizer(self, folder: Path) -> None:
        """Make the tokenizer in `folder` the output's. Where tokens were added, only `tokenizer.json` can hold it."""
        copy_tokenizer(self.origin, folder)
        if self.added is not None:
            set_added(folder, self.added)


_NO_MORE = "vocabulary: the base's, which holds every token of the others"


def plan_vocabulary(
    policy: str,
    models: Sequence[str | Path],
    base_index: int | None = 0,
    *,
    pad_to_multiple_of: int | None = None,
) -> Vocabulary:
    """The output's vocabulary, from headers and tokenizers alone.

    Args:
        policy: `same`, `base`, `union`, or a model whose tokenizer is taken (directory or cached hub id).
        models: directories of all models that are merged, the base among them.
        base_index: of the base; None if there is none: the first model's tokenizer counts as the base's, but a
            missing token then takes the mean of its owners.
        pad_to_multiple_of: cut padding rows off, then add rows up to a multiple of this; these hold the mean of
            the model's rows, as in mergekit.

    Returns:
        The plan.

    Raises:
        InputError: `same` and the vocabularies differ (naming model and token); no `tokenizer.json` where one is
            needed; a model without an embedding.
    """
    opened = tuple(open_checkpoint(path) for path in models)
    base = opened[base_index or 0]
    if policy == "same":
        tokens = same_tokens(opened, base)
        count = row_count(base)
        plan = RowMap(opened, (np.arange(count),) * len(opened), np.full(count, base_index or 0), len(tokens))
        return Vocabulary(count, tokens, (f"vocabulary: the same in all models, {count} rows",), plan, base.path)

    origin = base.path if policy in ("base", "union") else resolve(policy)
    first = read_tokens(origin)
    if first is None:
        raise InputError(f"{origin} has no tokenizer.json, which vocabulary '{policy}' needs; save its tokenizer there")
    notes = []
    known = [read_tokens(checkpoint.path) for checkpoint in opened]
    for checkpoint, found in zip(opened, known, strict=True):
        if found is None:
            notes.append(f"{checkpoint.path} has no tokenizer; taken to have that of {base.path}")
    theirs = [found or known[base_index or 0] or first for found in known]
    vocabularies = [with_rows(one, checkpoint) for one, checkpoint in zip(theirs, opened, strict=True)]

    limit = _rows_in(origin)
    tokens = {token: row for token, row in first.ids.items() if limit is None or row < limit}
    if len(tokens) < len(first.ids):
        notes.append(f"{len(first.ids) - len(tokens)} tokens of {origin} have no row in its embedding; left out")
    added: Mapping[str, Mapping[str, Any]] | None = None
    if policy == "union":
        before = len(tokens)
        tokens, added = union(tokens, _base_first(vocabularies, theirs, base_index or 0))
        more = list(tokens)[before:]
        notes.append(f"vocabulary: the base's and {len(more)} tokens more {_some(more)}" if more else _NO_MORE)
    else:
        notes.append(f"vocabulary: that of the tokenizer in {origin}")

    needed = max(tokens.values(), default=-1) + 1
    multiple = pad_to_multiple_of or 1
    rows = -(-needed // multiple) * multiple if pad_to_multiple_of else max(needed, limit or 0)
    kept = needed if pad_to_multiple_of else rows
    mapped = tuple(
        sources(tokens, rows, kept, own, row_count(checkpoint))
        for own, checkpoint in zip(vocabularies, opened, strict=True)
    )
    fillers = donors(mapped, base_index)
    fillers[kept:] = OWN_MEAN
    padding = f" and {rows - len(tokens)} of padding" if rows > len(tokens) else ""
    notes.append(f"embedding: {len(tokens)} rows of tokens{padding}, the base has {row_count(base)}")
    plan = RowMap(opened, mapped, fillers, needed)
    notes += _changes(plan, tokens, vocabularies)
    return Vocabulary(rows, tokens, tuple(notes), plan, origin, added)


def _base_first(
    vocabularies: Sequence[Mapping[str, int]], known: Sequence[Tokens], base: int
) -> list[tuple[Mapping[str, int], Tokens]]:
    order = [base, *(i for i in range(len(known)) if i != base)]
    return [(vocabularies[i], known[i]) for i in order]


def _rows_in(folder: Path) -> int | None:
    """Embedding rows of the model in `folder`; None where there is only a tokenizer."""
    has_weights = any(folder.glob("model*.safetensors*"))
    return row_count(open_checkpoint(folder)) if has_weights else None


def _changes(plan: RowMap, tokens: Mapping[str, int], vocabularies: Sequence[Mapping[str, int]]) -> list[str]:
    """A line for each model whose tokens do not stay as they are."""
    notes = []
    words, rows = list(tokens), np.fromiter(tokens.values(), dtype=np.int64, count=len(tokens))
    for checkpoint, held, vocabulary in zip(plan.models, plan.sources, vocabularies, strict=True):
        own = held[rows]
        lacks = [words[i] for i in np.flatnonzero(own < 0)]
        drops = [token for token in vocabulary if token not in tokens]
        moved = int(((own >= 0) & (own != rows)).sum())
        parts = [
            f"lacks {len(lacks)} tokens {_some(lacks)}, filled in" if lacks else "",
            f"loses {len(drops)} tokens {_some(drops)}" if drops else "",
            f"{moved} tokens change their row" if moved else "",
        ]
        if any(parts):
            notes.append(f"{checkpoint.path}: " + "; ".join(filter(None, parts)))
    return notes


def _some(tokens: Sequence[str]) -> str:
    return f"({', '.join(map(repr, tokens[:3]))}{', ...' if len(tokens) > 3 else ''})" if tokens else ""
