"""The models that get merged or compared, and how they come about: `search._training` does the work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ._training.inputs import checkpoint_hash, file_hash, input_hashes, local_files
from ._training.model import SCORED, Model, is_made, missing, needed, record_of
from ._training.plan import plan
from ._training.seal import check_seals, seal
from .recipe import Recipe

__all__ = [
    "SCORED",
    "Model",
    "check_seals",
    "checkpoint_hash",
    "file_hash",
    "input_hashes",
    "is_made",
    "local_files",
    "missing",
    "models",
    "needed",
    "plan",
    "record_of",
    "scored",
    "seal",
]


def models(recipe: Recipe, folder: Path, hashes: Mapping[str, str]) -> tuple[Model, ...]:
    """Base, experts and baselines, in the recipe's order, each with the directory that it lies or will lie in.

    Args:
        recipe: the recipe.
        folder: of checkpoints that are made.
        hashes: as made by `input_hashes`.
    """
    return scored(recipe, plan(recipe, folder, hashes))


def scored(recipe: Recipe, known: Iterable[Model]) -> tuple[Model, ...]:
    """The models that compete for the front of a recipe, without the steps on the way to them."""
    return tuple(model for model in known if model.kind in SCORED and recipe.competes(model.name))
