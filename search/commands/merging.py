"""Merges outside a run: files in mergekit's YAML, written as checkpoints or as an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import Problem, UserError

if TYPE_CHECKING:
    from mergers._parts import Blueprint

SHARD_BYTES = 5 * 10**9


def merge_file(
    file: Path,
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    threads: int | None = None,
    adapter: bool = False,
    rank: int | None = None,
) -> tuple[str, ...]:
    """Do the merges of one file in mergekit's YAML; relative models count from the working directory, as in mergekit.

    Args:
        file: one document or several. Named documents are written beside `out`, under `OUT-parts/NAME`, and kept if
            they are there already; where all are named, under `OUT/NAME`.
        out: directory to make.
        shard_bytes: largest file.
        threads: how many work on a tensor; None: one per processor.
        adapter: write one LoRA adapter instead of a model; needs LoRA experts and a linear merge.
        rank: largest rank of that adapter; None: the exact one, the sum of the experts' ranks.

    Returns:
        Lines that say what was written and what was done beside merging.

    Raises:
        UserError: the file cannot be read, or `out` exists.
        InputError: what `mergers` refuses: an unknown key or method, models that do not fit together. The whole file is
            checked before anything is written.
    """
    from mergers._adapter.fold import open_model
    from mergers._merge import write_blueprint
    from mergers._mergekit import read_merges

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(Problem(str(out), None, "", "the directory exists already", remedy="give another"))
    text = _text(file)
    folder = out.with_name(f"{out.name}-parts")
    merges = read_merges(text, resolve=open_model, folder=folder)
    if all(merge.name for merge in merges) and len(merges) > 1:
        folder = out
        merges = read_merges(text, resolve=open_model, folder=folder)
    lines: list[str] = []
    for merge in merges:
        target = folder / merge.name if merge.name and len(merges) > 1 else out
        if target != out and target.is_dir():
            lines.append(f"{target} exists, kept")
            continue
        if adapter:
            lines += _write_adapter(merge.blueprint, target, rank)
        else:
            extra = {"chat_template.jinja": merge.chat_template} if merge.chat_template else None
            lines += write_blueprint(merge.blueprint, target, shard_bytes=shard_bytes, extra=extra, threads=threads)
        lines.append(f"wrote {target}")
    return tuple(lines)


def import_genome(file: Path) -> str:
    """The recipe (YAML text) that asks what a configuration of mergekit-evolve asks.

    Raises:
        UserError: the file cannot be read, or is no such configuration.
    """
    from .genome import recipe_text

    return recipe_text(_text(file), file=str(file))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(Problem(str(file), None, "", "cannot be read", str(error))) from None


def _write_adapter(blueprint: Blueprint, out: Path, rank: int | None) -> tuple[str, ...]:
    from mergers._adapter.combine import adapter_weights
    from mergers._adapter.merge import merge_to_adapter
    from mergers._errors import InputError

    if blueprint.layers is not None or blueprint.vocabulary not in ("same", "base"):
        raise InputError("an adapter keeps its base's layers and tokens; leave out slices and tokenizer_source")
    uses = {(part.base, tuple(index for index, _ in part.inputs)) for part in blueprint.parts}
    orders = {order for _, order in uses}
    if len(orders) != 1:
        raise InputError("an adapter is merged from the same experts in every layer; write a full model")
    experts = [blueprint.models[index] for index in orders.pop()]
    table = {part.name: adapter_weights(part.method, dict(part.params), len(part.inputs)) for part in blueprint.parts}
    base = blueprint.models[blueprint.config].split("+")[0]
    return merge_to_adapter(base, experts, lambda name: table[name], out, dtype=blueprint.dtype, rank=rank)
