"""Merging checkpoints: into the weights of a live model, or into a new directory. Both hold the same bytes.

Both take one road: float32 arithmetic, one method call per tensor, one rounding to the output type.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ._adapter.fold import split_reference
from ._adapter.live import low_rank_of, merge_low_rank
from ._checkpoint.compare import is_buffer
from ._checkpoint.reader import Reader
from ._checkpoint.safetensors import Slot
from ._checkpoint.sources import Opened, Sources, readers_of
from ._checkpoint.write import carry_files, new_directory, write_weights
from ._errors import InputError
from ._execution.execute import merge_tensor, stored
from ._execution.materialize import Materializer
from ._execution.statistics import Inputs, Memory
from ._maths.draw import Draw
from ._parts import Blueprint, Part
from ._schema import load_method
from ._settings import positions
from ._spec import Merge
from ._vocabulary.policy import plan_vocabulary

__all__ = ["OUTPUT_TYPES", "Materializer", "Sources", "merge_in_place", "merge_to_directory", "write_blueprint"]

_LARGE = 1 << 24  # entries of a tensor that all threads share, so that none is left with it at the end
OUTPUT_TYPES = ("float32", "bfloat16", "float16")


def merge_in_place(merge: Merge, sources: Sources, out: Mapping[str, Tensor]) -> None:
    """Overwrite the live tensors of `out` with one merge; for many see `Materializer`."""
    Materializer(sources, out).apply(merge)


def merge_to_directory(
    merge: Merge,
    sources: Sources,
    out: Path,
    *,
    dtype: str,
    shard_bytes: int = 5_000_000_000,
    extra: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> None:
    """Write a merge of experts with one base as a checkpoint; see `write_blueprint`."""
    opened = sources.open()
    merge.check(len(opened.experts))
    parts = parts_of(merge, opened)
    blueprint = Blueprint((sources.base, *sources.experts), parts, dtype, vocabulary=sources.vocabulary)
    write_blueprint(blueprint, out, shard_bytes=shard_bytes, extra=extra, threads=threads, opened=opened)


def parts_of(merge: Merge, opened: Opened) -> tuple[Part, ...]:
    """Every tensor of the base, merged: model 0 is the base, the experts follow.

    Raises:
        InputError: no filter matches a tensor; its weights sum to zero where they are divided by.
    """
    method = load_method(merge.method)
    experts = len(opened.experts)
    names = opened.base.checkpoint.names
    position = positions(names)
    parts = []
    for name in names:
        source = opened.source_name(name)
        if is_buffer(source, opened.base.checkpoint.shape(source)):
            # Computed from the config, not learnt.
            parts.append(Part(name, "passthrough", (("scale", 1.0),), 0, ((0, source),), None))
            continue
        params = merge.at(experts, source, position(source))
        base = (0, source) if method.needs_base or params.get("task_vectors") else None
        inputs = tuple((index + 1, source) for index in range(experts))
        parts.append(Part(name, merge.method, tuple(params.items()), merge.seed, inputs, base))
    return tuple(parts)


def write_blueprint(
    blueprint: Blueprint,
    out: Path,
    *,
    shard_bytes: int = 5_000_000_000,
    extra: Mapping[str, str] | None = None,
    threads: int | None = None,
    opened: Opened | None = None,
) -> tuple[str, ...]:
    """Write a merge as a checkpoint that `transformers` loads: complete, or not there at all.

    Streams: results are written straight into the mapped output, so memory does not grow with the model. A process
    killed half-way leaves its finished shards in a hidden directory, and the same call continues there.

    Args:
        blueprint: what to merge.
        out: new directory; must not exist, or be empty.
        shard_bytes: largest file.
        extra: text files to put beside the weights, name -> text.
        threads: how many work on a tensor; None: one per processor that this process may use.
        opened: base and experts, where the blueprint is of these alone and they are open already.

    Returns:
        Lines that say what was done beside merging.

    Raises:
        InputError: a model that cannot be opened; NaN or infinity in an input or the result; `out` is taken; too little
            disk; a value too large for float16.
    """
    dtype = blueprint.dtype
    if dtype not in OUTPUT_TYPES:
        raise InputError(f"output type must be one of {', '.join(OUTPUT_TYPES)}, got '{dtype}'; choose one of them")
    notes = list(blueprint.notes)
    vocabulary = None
    if blueprint.vocabulary != "same":
        vocabulary = plan_vocabulary(blueprint.vocabulary, _folders(blueprint.models), blueprint.config)
        notes += vocabulary.notes
    if opened is None:
        used = readers_of(blueprint.models, base=blueprint.config, vocabulary=vocabulary)
    else:
        used = (opened.base, *opened.experts)
    slots = [_slot(part, used, dtype) for part in blueprint.parts]
    parts = dict(zip((slot.name for slot in slots), blueprint.parts, strict=True))
    workers = threads or len(os.sched_getaffinity(0))

    # Several tensors at a time, each by one thread: between tensors there is work that only one can do.
    at_once = workers if vocabulary is None and opened is None else 1

    def fill(slot: Slot, out: Tensor) -> None:
        part = parts[slot.name]
        low = None if opened is None else low_rank_of(opened, part.method, out.device)
        with torch.no_grad():
            if low is not None and out.is_floating_point():
                merge_low_rank(low, part.method, dict(part.params), part.inputs[0][1], out)
            else:
                _write_part(part, used, out, workers if at_once == 1 or out.numel() >= _LARGE else 1)

    with new_directory(Path(out), identity=_identity(blueprint, used, shard_bytes)) as folder:
        notes += write_weights(folder, slots, fill, shard_bytes=shard_bytes, at_once=at_once)
        changes = {} if blueprint.layers is None else {"num_hidden_layers": blueprint.layers}
        if vocabulary is not None:
            changes["vocab_size"] = vocabulary.rows
        notes += carry_files(used[blueprint.config].checkpoint.path, folder, dtype, changes=changes)
        if vocabulary is not None:
            vocabulary.write_tokenizer(folder)
        for file, text in (extra or {}).items():
            (folder / file).write_text(text, encoding="utf-8")
    return tuple(notes)


def _folders(models: Sequence[str]) -> list[Path]:
    """Where the models' tokenizers lie: an adapter has its base's."""
    found = [split_reference(model)[0] for model in models]
    first = next(folder for folder in found if folder is not None)
    return [folder or first for folder in found]


def _slot(part: Part, readers: Sequence[Reader], dtype: str) -> Slot:
    index, name = part.base or part.inputs[0]
    held, shape = readers[index].described(name)
    for other, its in part.inputs:
        kind, theirs = readers[other].described(its)
        if ("float" in kind) != ("float" in held):
            raise InputError(
                f"tensor {its} of {readers[other].name} holds {kind}, {name} of {readers[index].name} {held}; "
                "convert one of them"
            )
        if theirs != shape:
            raise InputError(
                f"tensor {its} of {readers[other].name} is {list(theirs)}, {name} of {readers[index].name} is "
                f"{list(shape)}; merge equal shapes, or choose a vocabulary if they differ in tokens"
            )
    return Slot(part.name, dtype if "float" in held else held, shape)


def _write_part(part: Part, readers: Sequence[Reader], out: Tensor, threads: int) -> None:
    """Merge one tensor of a blueprint into `out`."""
    method = load_method(part.method)
    origins = [(readers[index], name) for index, name in (*((part.base,) if part.base else ()), *part.inputs)]
    if not out.is_floating_point():
        first, *others = [reader.stored(name) for reader, name in origins]
        for (reader, name), other in zip(origins[1:], others, strict=True):
            if not torch.equal(first, other):
                raise InputError(f"{reader.name} differs from the base in integer tensor {name}; make them equal")
        out.copy_(first)
        return
    tensors = tuple(stored(reader, name, out.device) for reader, name in origins)
    inputs = Inputs(tensors[0] if part.base else None, tensors[1 if part.base else 0 :], tuple(out.shape))
    # Masks belong to the tensor's name in the base: a head that is stored though tied gets its embedding's.
    draw = Draw(part.seed, part.base[1] if part.base else part.name)
    merge_tensor(method, dict(part.params), draw, origins, inputs, out, Memory(tables=False), threads)


def _identity(blueprint: Blueprint, readers: Sequence[Reader], shard_bytes: int) -> str:
    """What is being merged, down to the state of the input files: whether a half-done output may be continued."""
    stamps = [reader.checkpoint.stamp() for reader in readers]
    return hashlib.sha256(repr((blueprint, stamps, shard_bytes)).encode()).hexdigest()
