"""Models that are made without training: fixed merges, adapters folded into what they change, picks of a front."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergers._spec import Merge
from search._recipe.trainings import merge_of
from search._space.stored import to_json
from search._study.place import write_atomic
from search._training.model import MADE, Model
from search._training.seal import seal
from search.run.rundir import Run, log


def merge(run: Run, model: Model, known: Mapping[str, Model]) -> None:
    """Make a fixed merge, or fold an adapter.

    Raises:
        mergers.InputError: the models cannot be merged so.
    """
    assert model.merge is not None
    parents = tuple(known[name] for name in model.parents)
    references = tuple(parent.reference for parent in parents)
    write(run, model, merge_of(model.merge), references, {"of": [parent.name for parent in parents]})


def write(run: Run, model: Model, made: Merge, references: tuple[str, ...], facts: Mapping[str, Any]) -> None:
    """Write a merge where a model belongs, with `made.json`; it appears whole or not at all."""
    from mergers._merge import Sources, merge_to_directory

    base = Path(run.recipe.resolve(run.recipe.base))
    partial = model.path.with_name(f".{model.path.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    model.path.parent.mkdir(parents=True, exist_ok=True)
    merge_to_directory(made, Sources(str(base), references), partial, dtype=model.dtype)
    told = {"method": made.method, "parameters": to_json(made), "seed": made.seed, "references": list(references)}
    write_atomic(partial / MADE, json.dumps({**told, **facts}, indent=1, ensure_ascii=False) + "\n")
    seal(partial)
    partial.rename(model.path)
    log(run, "merged", name=model.name, method=made.method, parameters=to_json(made))
