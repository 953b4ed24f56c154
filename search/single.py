"""One score outside a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .confidence import stated
from .errors import Problem, UserError
from .graders import load_graders
from .items import scores_of
from .objective import AS_IT_IS, Job, ScorerFactory
from .recipe import load_recipe
from .uncertainty import layouts_of


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
    from mergers._checkpoint.checkpoint import compare, open_checkpoint

    if split not in ("search", "report"):
        raise UserError(Problem("", None, "--split", "must be search or report", split))
    recipe = load_recipe(recipe_file)
    base = recipe.resolve(recipe.base)
    compare(open_checkpoint(base), open_checkpoint(model), model)
    graders = load_graders(recipe)
    scorer = ScorerFactory(base, graders, recipe.export.dtype, recipe.cluster.evaluators.engine)()
    scores = scores_of(scorer(Job(AS_IT_IS, (str(Path(model).resolve()),), split)), graders, split)
    plain = stated(scores, split, layouts_of(graders, split))
    languages: dict[str, dict[str, Any]] = {}
    for (name, language), score in plain.items():
        if language:
            languages.setdefault(language, {})[name] = score
    overall = {name: score for (name, language), score in plain.items() if not language}
    return {"model": model, "split": split, "scores": overall, "languages": languages}
