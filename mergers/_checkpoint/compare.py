"""What two checkpoints may differ in and still be merged: told from their headers, without torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import InputError

if TYPE_CHECKING:
    from .tensors import Checkpoint

_REMEDY = "an expert must be fine-tuned from this base"
_BUFFERS = re.compile(r"(^|\.)(rotary(_pos)?_emb\.\w*(inv_freq|_cached)|masked_bias|position_ids)$")
_MASKS = re.compile(r"(^|\.)(attn|attention|self_attn)\.bias$")


def is_buffer(name: str, shape: tuple[int, ...]) -> bool:
    """Whether tensor `name` is a constant that the model's code makes for itself, so that a file may leave it out.

    Rotary frequencies, position numbers, causal masks (4-D `attn.bias` of GPT-2 and GPT-NeoX). Some versions of
    transformers stored them, others do not.
    """
    return bool(_BUFFERS.search(name)) or (bool(_MASKS.search(name)) and len(shape) == 4 and shape[:2] == (1, 1))


def compare(base: Checkpoint, other: Checkpoint, name: str, *, same_rows: bool = True) -> None:
    """Refuse `other` if it cannot be merged with `base`.

    Types may differ, a tied output head may be absent or stored, and so may buffers (see `is_buffer`).

    Args:
        base: what every expert started from.
        other: the expert.
        name: how the error calls it.
        same_rows: False lets embedding and head have other rows, where a vocabulary policy maps them.

    Raises:
        InputError: naming the expert and the first thing that differs: number of layers, vocabulary, a
            missing or an extra tensor, a shape, floats against integers, an output head of its own.
    """
    compare_headers(base, other, name, same_rows=same_rows)
    head = other.head
    if base.head is None and head is not None and _may_tie(base, other) and not is_tied(other):
        raise InputError(f"{name} has an output head of its own ({head}), the base ties it to the embedding; {_REMEDY}")


def compare_headers(base: Checkpoint, other: Checkpoint, name: str, *, same_rows: bool = True) -> None:
    """As `compare`, from headers alone: a head that only `other` stores is taken for a tied one.

    Raises:
        InputError: see `compare`.
    """
    if base.layers != other.layers:
        raise InputError(f"{name} has {other.layers} layers, the base {base.layers}; {_REMEDY}")
    embedding = base.embedding
    if same_rows and embedding is not None and embedding in other:
        rows = base.shape(embedding)[:1], other.shape(embedding)[:1]
        if rows[0] != rows[1]:
            raise InputError(f"{name} has a vocabulary of {rows[1][0]} rows, the base of {rows[0][0]}; {_REMEDY}")
    for tensor in base.names:
        if tensor in other:
            mapped = not same_rows and tensor in (base.embedding, base.head)
            _compare_tensor(base, other, name, tensor, skip=int(mapped))
        elif not _optional(base, base, other, tensor):
            raise InputError(f"{name} lacks tensor {tensor} of the base; {_REMEDY}")
    for tensor in other.names:
        if tensor not in base and not _optional(other, base, other, tensor):
            raise InputError(f"{name} has tensor {tensor}, which the base lacks; {_REMEDY}")


def differences(base: Checkpoint, other: Checkpoint) -> tuple[str, ...]:
    """What `compare` tolerates in `other`, in words, and what is done about it; one line per kind."""
    notes = []
    lacks = [name for name in base.names if name not in other]
    extra = [name for name in other.names if name not in base]
    for name in lacks:
        if name == base.head:
            notes.append(f"{other.path} stores no {name}; its embedding stands in (tied head)")
    for name in extra:
        if name == other.head:
            notes.append(f"{other.path} stores {name}, which the base ties to its embedding; it is left out")
    for names, verb, done in ((lacks, "lacks", "the base's values stand in"), (extra, "has", "left out")):
        buffers = [name for name in names if name not in (base.head, other.head)]
        if buffers:
            more = f" and {len(buffers) - 1} more" if len(buffers) > 1 else ""
            side = "of the base" if verb == "lacks" else "that the base lacks"
            notes.append(f"{other.path} {verb} {buffers[0]}{more} {side} (buffers that code makes anew); {done}")
    return tuple(notes)


def refuse_duplicates(paths: Sequence[str | Path]) -> None:
    """Refuse a list of experts that names one checkpoint twice.

    Raises:
        InputError: two paths are equal, or lead to the same directory.
    """
    seen: dict[Path, str | Path] = {}
    for path in paths:
        own = str(path)
        place = Path(own if Path(own).is_dir() else own.rpartition("+")[2]).resolve()  # an adapter, whatever its base
        if place in seen:
            also = "" if str(seen[place]) == str(path) else f", also as {seen[place]}"
            raise InputError(f"expert {path} is listed twice{also}; list it once with a larger weight")
        seen[place] = path


def is_tied(checkpoint: Checkpoint) -> bool:
    """Whether the output head is the embedding: not stored, or stored with the same bytes."""
    head, embedding = checkpoint.head, checkpoint.embedding
    if head is None or embedding is None:
        return head is None
    return checkpoint.same_bytes(head, embedding)


def all_tied(checkpoints: Sequence[Checkpoint]) -> bool:
    """Whether every checkpoint's output head is its embedding: not stored, or stored with the same bytes."""
    return all(is_tied(checkpoint) for checkpoint in checkpoints)


def _may_tie(base: Checkpoint, other: Checkpoint) -> bool:
    """Whether a head that one of the two does not store may be its embedding."""
    return base.embedding is not None and base.embedding in other


def _optional(holder: Checkpoint, base: Checkpoint, other: Checkpoint, tensor: str) -> bool:
    if tensor == (base.head or other.head):
        return _may_tie(base, other)
    return is_buffer(tensor, holder.shape(tensor))


def _compare_tensor(base: Checkpoint, other: Checkpoint, name: str, tensor: str, *, skip: int) -> None:
    """Compare one tensor, its first `skip` dimensions not."""
    ours, theirs = base.shape(tensor), other.shape(tensor)
    if ours[skip:] != theirs[skip:]:
        raise InputError(f"{name} has shape {list(theirs)} for {tensor}, the base {list(ours)}; merge equal shapes")
    if base.is_float(tensor) != other.is_float(tensor):
        kinds = other.dtype(tensor), base.dtype(tensor)
        raise InputError(f"{name} stores {tensor} as {kinds[0]}, the base as {kinds[1]}; convert one of them")
