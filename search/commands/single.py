"""One checkpoint outside a search, scored as a candidate would be, and remembered beside a run's own scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cluster.storage import cache
from search._study import singles
from search._study.place import study_at
from search.errors import Problem, UserError
from search.experts import checkpoint_hash
from search.recipe import Recipe
from search.run.items import scores_of
from search.run.place import is_url
from search.run.rundir import is_run, locate
from search.scoring.graders import grader_key, load_graders
from search.scoring.objective import AS_IT_IS, Grader, Job, ScorerFactory
from search.statistics.confidence import stated
from search.statistics.uncertainty import layouts_of
from search.store import Scores, Store


def score_model(recipe_file: Path, model: str, split: str) -> dict[str, Any]:
    """Score a checkpoint with a recipe's evaluators, in this process, as a candidate would be scored.

    Where the recipe has a run, scores are kept in its database, each known by the checkpoint's content, the evaluator's
    version, its items, the data type and the engine; what is known is not scored again. A run at a URL may be written
    by another machine: scores of its recipe are kept in this machine's cache.

    Args:
        recipe_file: recipe, or a run directory.
        model: checkpoint directory with the shapes of the recipe's base.
        split: `search` or `report`.

    Returns:
        `model`, `split`, `scores` by evaluator, `languages` by language and evaluator, as in the front document, and
        `cached`, the evaluators whose scores were known.

    Raises:
        UserError, InputError: bad input.
    """
    from mergers._checkpoint.checkpoint import compare, open_checkpoint

    if split not in ("search", "report"):
        raise UserError(Problem("", None, "--split", "must be search or report", split))
    recipe, run = locate(recipe_file, None)
    base = recipe.resolve(recipe.base)
    compare(open_checkpoint(base), open_checkpoint(model), model)
    graders = load_graders(recipe)
    with _known(recipe, run) as store:
        scores, cached = _scores(recipe, base, model, split, graders, store)
    plain = stated(scores, split, layouts_of(graders, split), recipe.search.objectives)
    languages: dict[str, dict[str, Any]] = {}
    for (name, language), score in plain.items():
        if language:
            languages.setdefault(language, {})[name] = score
    overall = {name: score for (name, language), score in plain.items() if not language}
    return {"model": model, "split": split, "scores": overall, "languages": languages, "cached": cached}


@contextmanager
def _known(recipe: Recipe, run: Path) -> Iterator[Store | None]:
    """Where scores are kept; None where the recipe has no run yet."""
    if is_run(run):
        store = study_at(recipe, run)
    elif is_url(recipe.storage):
        file = cache.root() / "scores.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        store = Store(file)
    else:
        yield None
        return
    with closing(store):
        yield store


def _scores(
    recipe: Recipe, base: str, model: str, split: str, graders: tuple[Grader, ...], store: Store | None
) -> tuple[Scores, list[str]]:
    """Scores of every evaluator, in the recipe's order, and the names of those that were known."""
    digests = checkpoint_hash(base), checkpoint_hash(model)
    keys = {grader.name: _key(recipe, *digests, grader) for grader in graders}
    by_name = {name: singles.read(store, key, split) for name, key in keys.items()} if store is not None else {}
    cached = [name for name, found in by_name.items() if found]
    missing = tuple(grader for grader in graders if grader.name not in cached)
    if missing:
        scorer = ScorerFactory(base, missing, recipe.export.dtype, recipe.cluster.evaluators.engine)()
        answer = scorer(Job(AS_IT_IS, (str(Path(model).resolve()),), split))
        for (name, language), score in scores_of(answer.results, missing, split).items():
            by_name.setdefault(name, {})[language] = score
        for grader in missing:
            if store is not None:
                singles.write(store, keys[grader.name], split, by_name[grader.name])
    ordered = {(grader.name, of): score for grader in graders for of, score in by_name[grader.name].items()}
    return ordered, cached


def _key(recipe: Recipe, base: str, model: str, grader: Grader) -> str:
    # The base too: judges compare with it, and it decides the tokenizer.
    parts = (base, model, grader_key(grader), recipe.export.dtype, recipe.cluster.evaluators.engine)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
