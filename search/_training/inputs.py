"""What a run reads: files and checkpoints, known by their content."""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path

from search.errors import Problem, UserError
from search.recipe import DataSource, ExistingExpert, Recipe


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_hash(path: str) -> str:
    """Content hash of a checkpoint's weights."""
    from mergers._checkpoint.checkpoint import open_checkpoint

    return open_checkpoint(path).digest()


def input_hashes(recipe: Recipe) -> dict[str, str]:
    """Name of each input of the recipe (base, existing expert, data file) -> content hash."""
    found = {"base": checkpoint_hash(recipe.resolve(recipe.base))}
    for name, expert in (dict(recipe.experts) | dict(recipe.baselines)).items():
        if isinstance(expert, ExistingExpert):
            found[f"experts.{name}"] = checkpoint_hash(recipe.resolve(expert.path))
    for name, source in recipe.data.items():
        found |= {input_name("data", name, file): file_hash(Path(file)) for file in local_files(recipe, source)}
    for name, evaluator in recipe.evaluators.items():
        files = local_files(recipe, evaluator.data) if evaluator.data is not None else ()
        found |= {input_name("evaluators", name, file): file_hash(Path(file)) for file in files}
    return found


def local_files(recipe: Recipe, source: DataSource) -> tuple[str, ...]:
    """Absolute files of a data source, globs expanded in sorted order; () for a data set on the hub.

    Raises:
        UserError: a file that is not there.
    """
    found: list[str] = []
    for pattern in recipe.source(source).files:
        matched = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not matched or not all(Path(file).is_file() for file in matched):
            raise UserError(Problem(recipe.file, None, "", "there is no such file", pattern))
        found += matched
    return tuple(found)


def input_name(section: str, name: str, file: str) -> str:
    """The key of a file among `input_hashes`."""
    return f"{section}.{name}: {file}"
