"""Whether a run has all its models already: decided from the recipe, hashes of its inputs and the seals alone.

`mergefront check` reads every row of the data and every item. A run whose recipe and inputs are what they were has
passed it; so a second start need not.
"""

from __future__ import annotations

import json
from pathlib import Path

from search.experts import check_seals, input_hashes, missing, plan, scored
from search.recipe import LOCK, Recipe

from .rundir import is_held, is_run


def has_its_models(recipe: Recipe, path: Path) -> bool:
    """Whether the run in `path` is of this recipe with these inputs, and nothing is left to train or to merge.

    Raises:
        UserError: a checkpoint that was changed after it was made, or an input file that is gone.
    """
    if not is_run(path) or is_held(path):
        return False
    held = json.loads((path / LOCK).read_text(encoding="utf-8"))
    if held["fingerprint"] != recipe.fingerprint():
        return False
    contents: dict[str, str] = held["contents"]
    if any(contents.get(name) != digest for name, digest in input_hashes(recipe).items()):
        return False
    known = plan(recipe, path / "experts", contents)
    check_seals(known)
    return not missing(scored(recipe, known))
