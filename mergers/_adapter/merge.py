"""A merge of LoRA experts written as one LoRA adapter instead of a full model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._checkpoint.checkpoint import open_checkpoint
from .._checkpoint.compare import refuse_duplicates
from .._errors import InputError
from .adapter import Adapter
from .combine import Weights, combine
from .compress import compress
from .fold import fold, split_reference
from .open import open_adapter
from .write import write_adapter


def merge_to_adapter(
    base: str, experts: Sequence[str], weights: Weights, out: Path, *, dtype: str, rank: int | None = None
) -> tuple[str, ...]:
    """Write base + sum w_i d_i as the adapter sum w_i d_i of `base`: exact, but for the type and rank asked for.

    Args:
        base: the merge's base.
        experts: adapters of it: directories, or `base+adapter`.
        weights: see `combine`; those of a merge are its tensors' `adapter_weights`.
        out: new directory; must not exist, or be empty.
        dtype: of the adapter's tensors.
        rank: largest rank to write; None keeps all, which is the sum of the experts'.

    Returns:
        Lines that say what was written and what it lost.

    Raises:
        InputError: an expert that is no adapter of `base`; see `open_adapter`, `fold`, `combine` and `write_adapter`.
    """
    place, on_base = split_reference(base)
    if place is None or on_base is not None:
        raise InputError(f"base {base} is or has an adapter; give the plain model that the experts adapt")
    opened = open_checkpoint(place)
    adapters = [_open(expert, base, place) for expert in experts]
    refuse_duplicates([split_reference(expert)[1] or expert for expert in experts])
    notes = [note for adapter in adapters for note in fold(opened, adapter).notes]
    merged = combine(adapters, weights, opened)
    ranks = {name: change.low_rank.rank for name, change in merged.changes.items() if change.low_rank}
    if rank is not None:
        merged, errors = compress(merged, rank)
        worst = max(errors, key=lambda name: errors[name], default=None)
        if worst is not None:
            notes.append(f"rank {rank}: the largest loss is {errors[worst]:.2%} of the change of {worst}")
    write_adapter(merged, out, dtype=dtype, base_name=base)
    largest = min(max(ranks.values(), default=0), rank or max(ranks.values(), default=0))
    notes.append(f"wrote an adapter of {len(merged.changes)} tensors, rank at most {largest}, for base {base}")
    return tuple(notes)


def _open(expert: str, base: str, place: Path) -> Adapter:
    model, adapter = split_reference(expert)
    if adapter is None:
        raise InputError(f"expert {expert} is a full model; an adapter can only be written of LoRA experts")
    if model is not None and model.resolve() != place.resolve():
        raise InputError(f"expert {expert} adapts {model}, not the merge's base {base}; write a full model")
    return open_adapter(adapter)
