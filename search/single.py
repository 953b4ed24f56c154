"""One merge, or one score, outside a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import Problem, UserError
from .graders import load_graders
from .items import scores_of
from .objective import AS_IT_IS, Job, ScorerFactory
from .recipe import load_recipe

SHARD_BYTES = 5 * 10**9


def score_model(recipe_file: Path, model: str, split: str) -> dict[str, Any]:
    """Score a checkpoint with a recipe's evaluators, in this process, as a candidate would be scored.

    Args:
        recipe_file: recipe.
        model: checkpoint directory with the shapes of the recipe's base.
        split: `search` or `report`.

    Returns:
        `model`, `split`, `scores` by evaluator, `languages` by language and evaluator, as in the front document.

    Raises:
        UserError, InputError: bad input.
    """
    from mergers._checkpoint import compare, open_checkpoint

    if split not in ("search", "report"):
        raise UserError(Problem("", None, "--split", "must be search or report", split))
    recipe = load_recipe(recipe_file)
    base = recipe.resolve(recipe.base)
    compare(open_checkpoint(base), open_checkpoint(model), model)
    graders = load_graders(recipe)
    scorer = ScorerFactory(base, graders, recipe.export.dtype, recipe.cluster.evaluators.engine)()
    scores = scores_of(scorer(Job(AS_IT_IS, (str(Path(model).resolve()),), split)), graders, split)
    plain = {key: {"value": s.value, "stderr": s.stderr, "n": s.n, "split": split} for key, s in scores.items()}
    languages: dict[str, dict[str, Any]] = {}
    for (name, language), score in plain.items():
        if language:
            languages.setdefault(language, {})[name] = score
    overall = {name: score for (name, language), score in plain.items() if not language}
    return {"model": model, "split": split, "scores": overall, "languages": languages}


def merge_file(file: Path, out: Path) -> Path:
    """Do the merge of one file in mergekit's YAML; relative models count from the working directory, as in mergekit.

    Args:
        file: the merge.
        out: directory to make.

    Returns:
        `out`.

    Raises:
        UserError: the file cannot be read, or `out` exists.
        InputError: what `mergers` refuses: an unknown key or method, models that do not fit together.
    """
    from mergers._checkpoint import compare, open_checkpoint
    from mergers._merge import Sources, merge_to_directory
    from mergers._mergekit import from_mergekit

    if out.exists():
        raise UserError(Problem(str(out), None, "", "the directory exists already", remedy="give another"))
    try:
        asked = from_mergekit(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(Problem(str(file), None, "", "cannot be read", str(error))) from None
    base = open_checkpoint(asked.base)
    for expert in asked.experts:
        compare(base, open_checkpoint(expert), expert)
    dtype = asked.dtype or base.dtype(base.names[0])
    merge_to_directory(asked.merge, Sources(asked.base, asked.experts), out, dtype=dtype, shard_bytes=SHARD_BYTES)
    return out
