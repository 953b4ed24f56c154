"""Merging checkpoints: into the weights of a live model, or into a new directory. Both hold the same bytes.

Both take one road: float32 inputs, one method call per tensor, one rounding to the output type.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ._draw import Draw
from ._errors import InputError
from ._safetensors import Slot
from ._schema import load_method
from ._sources import Opened, Sources
from ._spec import Merge
from ._write import carry_files, new_directory, write_weights

__all__ = ["OUTPUT_TYPES", "Sources", "merge_in_place", "merge_to_directory"]

OUTPUT_TYPES = ("float32", "bfloat16", "float16")


def merge_in_place(merge: Merge, sources: Sources, out: Mapping[str, Tensor]) -> None:
    """Overwrite the live tensors of `out` with the merge.

    Arithmetic is float32 on their device, rounded once to their type. Tensors that share memory (tied heads)
    are written once. `out` need not list every tensor of the base.

    Args:
        merge: what to compute.
        sources: base and experts.
        out: tensor name -> live tensor, for example a model's state dict.

    Raises:
        InputError: see `Merge.check` and `Sources.open`; a live tensor that the base lacks or holds in
            another shape. `out` may then hold a mixture.
    """
    opened = sources.open()
    merge.check(len(opened.experts))
    written = set()
    with torch.no_grad():
        for name, live in out.items():
            place = (live.data_ptr(), live.shape, live.stride(), live.dtype)
            if place in written:
                continue
            written.add(place)
            shape = opened.shape(name)
            if tuple(live.shape) != shape:
                raise InputError(f"the live {name} is {list(live.shape)}, the base {list(shape)}; load the base")
            live.copy_(_merged(merge, opened, name, live.device))


def merge_to_directory(
    merge: Merge,
    sources: Sources,
    out: Path,
    *,
    dtype: str,
    shard_bytes: int = 5_000_000_000,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write the merge as a checkpoint that `transformers` loads: complete, or not there at all.

    Streams tensor by tensor. Config (with its type of weights set), tokenizer, chat template and generation
    config come from the base.

    Args:
        merge: what to compute.
        sources: base and experts.
        out: new directory; must not exist, or be empty.
        dtype: of the floating-point tensors written: `float32`, `bfloat16` or `float16`.
        shard_bytes: largest file.
        extra: text files to put beside the weights, name -> text.

    Raises:
        InputError: see `Merge.check` and `Sources.open`; `out` is taken; too little disk; a value too large
            for float16.
    """
    if dtype not in OUTPUT_TYPES:
        raise InputError(f"output type must be one of {', '.join(OUTPUT_TYPES)}, got '{dtype}'; choose one of them")
    opened = sources.open()
    merge.check(len(opened.experts))
    base = opened.base.checkpoint

    def read(name: str) -> Tensor:
        merged = _merged(merge, opened, name, torch.device("cpu"))
        if not merged.is_floating_point():
            return merged
        rounded = merged.to(getattr(torch, dtype))
        if dtype == "float16" and not torch.isfinite(rounded).all():
            raise InputError(f"tensor {name} of the merge exceeds float16's range; write bfloat16 or float32")
        return rounded

    slots = [Slot(name, dtype if base.is_float(name) else base.dtype(name), base.shape(name)) for name in base.names]
    with new_directory(Path(out)) as folder, torch.no_grad():
        write_weights(folder, slots, read, shard_bytes=shard_bytes)
        carry_files(base.path, folder, dtype)
        for file, text in (extra or {}).items():
            (folder / file).write_text(text, encoding="utf-8")


def _merged(merge: Merge, opened: Opened, name: str, device: torch.device) -> Tensor:
    """Tensor `name` of the merge, float32 on `device`, not yet rounded; integers are the base's."""
    method = load_method(merge.method)
    name = opened.source_name(name)
    if name in opened.base.checkpoint and not opened.base.checkpoint.is_float(name):
        return opened.agreed(name)
    inputs = opened.inputs(name, device)
    keywords = dict(merge.params)
    if method.random:
        keywords["draw"] = Draw.of(merge.seed, name)  # type: ignore[assignment]  # the one keyword that is no parameter
    first = (opened.base.read(name, device),) if method.needs_base else ()
    merged = method.function(*first, inputs, **keywords)
    if merged.shape != inputs[0].shape or merged.dtype != torch.float32:
        raise InputError(
            f"{merge.method} returned {merged.dtype} {list(merged.shape)} for {name}; "
            f"a method keeps type and shape, here torch.float32 {list(inputs[0].shape)}"
        )
    # A model of NaNs still answers something, and would be given a score that nobody measured.
    bad = merged.numel() - int(torch.isfinite(merged).sum())
    if bad:
        raise InputError(f"tensor {name} of the merge holds {bad} values that are not finite; change the coefficients")
    return merged  # type: ignore[no-any-return]  # methods of other packages are untyped here
