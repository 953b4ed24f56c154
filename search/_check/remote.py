"""What a recipe names by URL: fetched into the local cache before anything else is looked at."""

from __future__ import annotations

from collections.abc import Iterator

from cluster._errors import InputError
from cluster.storage import urls
from search._recipe.yaml_text import KeyPath
from search.errors import Problem
from search.recipe import ExistingExpert, Recipe


def problems(recipe: Recipe) -> tuple[Problem, ...]:
    """URLs that cannot be used, one problem each."""
    found = []
    for path, place in _named(recipe):
        if urls.is_url(place):
            try:
                recipe.resolve(place)
            except InputError as error:
                found.append(recipe.problem(path, str(error)))
    return tuple(found)


def _named(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    yield ("base",), recipe.base
    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        for name, model in models.items():
            if isinstance(model, ExistingExpert):
                yield (section, name, "path"), model.path
    for name, source in recipe.data.items():
        for file in (source.path, *source.files):
            yield ("data", name), file
    for name, evaluator in recipe.evaluators.items():
        for file in (evaluator.data.path, *evaluator.data.files) if evaluator.data is not None else ():
            yield ("evaluators", name, "data"), file
