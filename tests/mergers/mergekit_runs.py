"""Merge files on disk, run by mergekit 0.1.5 and laid out by us, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from mergers._checkpoint.checkpoint import SINGLE, open_checkpoint
from mergers._maths.draw import Draw
from mergers._mergekit import NamedBlueprint, read_merges
from mergers._parts import Blueprint, Part
from mergers._schema import load_method

LAYERS = 5


def run_mergekit(text: str, out: Path) -> dict[str, Tensor]:
    """What `mergekit-yaml` does, without starting a process for each."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    options = MergeOptions(quiet=True, write_model_card=False)
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(out), options)
    return dict(load_file(out / SINGLE))


def read(text: str, folder: Path | str = ".") -> tuple[NamedBlueprint, ...]:
    """The documents of `text` over checkpoints on disk."""
    return read_merges(text, resolve=open_checkpoint, folder=folder)


def evaluate(blueprint: Blueprint) -> dict[str, Tensor]:
    """Every part by its method's reference function on whole float32 tensors, rounded once."""
    models = [load_file(Path(model) / SINGLE) for model in blueprint.models]
    dtype: torch.dtype = getattr(torch, blueprint.dtype)
    return {part.name: _merged(part, models).to(dtype) for part in blueprint.parts}


def units_apart(ours: Tensor, theirs: Tensor) -> int:
    """The largest distance of two bfloat16 tensors, in steps of the type.

    Entries that differ by less than 1e-7 count as equal: where a sum cancels, the rounding of its float32 terms (of
    size 1 and below) is larger than the steps at what is left.
    """
    differ = (ours.double() - theirs.double()).abs() > 1e-7
    return int(((_ordered(ours) - _ordered(theirs)).abs() * differ).max())


def _ordered(tensor: Tensor) -> Tensor:
    bits = tensor.view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


def _merged(part: Part, models: list[dict[str, Tensor]]) -> Tensor:
    method = load_method(part.method)
    keywords: dict[str, Any] = dict(part.params)
    assert bool(keywords.pop("task_vectors", part.base is not None)) == (part.base is not None)
    if method.random:
        keywords["draw"] = Draw(part.seed, part.base[1] if part.base else part.name)
    experts = [models[index][name].float() for index, name in part.inputs]
    base = None if part.base is None else models[part.base[0]][part.base[1]].float()
    if method.optional_base:
        merged = method.function(experts, base=base, **keywords)
    else:
        merged = method.function(*(() if base is None else (base,)), experts, **keywords)
    assert isinstance(merged, Tensor)
    return merged
