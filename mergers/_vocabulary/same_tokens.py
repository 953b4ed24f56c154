"""Whether models share one vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._checkpoint.tensors import Checkpoint
from .._errors import InputError
from .tokenizer import FAST, Tokens, read_tokens, slow_files

_REMEDY = "choose the vocabulary 'base' or 'union'"


def same_tokens(models: Sequence[Checkpoint], base: Checkpoint) -> Mapping[str, int]:
    """The tokens that all models share, by row; empty where no `tokenizer.json` tells.

    A model without a tokenizer is taken to have the base's. Tokens without a row in the embedding do not count.

    Raises:
        InputError: naming the model and what differs: number of rows, a token, a file of a slow tokenizer.
    """
    rows = row_count(base)
    tokens = _tokens(base)
    for other in models:
        if row_count(other) != rows:
            raise InputError(f"{other.path} has a vocabulary of {row_count(other)} rows, the base of {rows}; {_REMEDY}")
        theirs = _tokens(other)
        if tokens is None or theirs is None:
            _compare_files(base, other)
        elif theirs != tokens:
            token = next(token for token in (*tokens, *theirs) if tokens.get(token) != theirs.get(token))
            there, here = (str(known.get(token, "missing")) for known in (theirs, tokens))
            raise InputError(
                f"{other.path} has another vocabulary: token {token!r} is {there} there, {here} in the base; {_REMEDY}"
            )
    return tokens or {}


def row_count(checkpoint: Checkpoint) -> int:
    """Rows of the embedding.

    Raises:
        InputError: no tensor is named like an embedding.
    """
    if checkpoint.embedding is None:
        raise InputError(f"{checkpoint.path} has no tensor named like an embedding, so its vocabulary is not known")
    return checkpoint.shape(checkpoint.embedding)[0]


def with_rows(tokens: Tokens, checkpoint: Checkpoint) -> dict[str, int]:
    """The tokens that have a row in the embedding."""
    rows = row_count(checkpoint)
    return {token: number for token, number in tokens.ids.items() if number < rows}


def _tokens(checkpoint: Checkpoint) -> dict[str, int] | None:
    known = read_tokens(checkpoint.path) if (checkpoint.path / FAST).is_file() else None
    return None if known is None else with_rows(known, checkpoint)


def _compare_files(base: Checkpoint, other: Checkpoint) -> None:
    ours = {file.name: file for file in slow_files(base.path)}
    for file in slow_files(other.path):
        if file.name in ours and file.read_bytes() != ours[file.name].read_bytes():
            raise InputError(f"{other.path} has another {file.name} than the base; save both with a {FAST}")
