"""The recipe's judges: models behind endpoints, described once and named by the evaluators that ask them.

What a judge may state is `evaluators.judges.settings.Judge`; the rules are there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from search._recipe.fields import refusal
from search.errors import Problem, suggestion

if TYPE_CHECKING:
    from search._recipe.problems import Origin
    from search.recipe import Recipe

_OURS = ("name", "account")
"""What mergefront fills in: whose name stands in messages, and whose money is counted."""


def _judge(value: Any) -> Any:
    from evaluators._errors import InputError
    from evaluators.judges.settings import judge_of

    if isinstance(value, Mapping):
        for key in _OURS:
            if key in value:
                raise refusal(f"a judge has no key '{key}'", "remove it", value=None)
    try:
        judge_of(value)
    except InputError as error:
        raise refusal(str(error), value=None) from None
    return value


JudgeSpec = Annotated[Mapping[str, Any], BeforeValidator(_judge)]
"""One judge, as written."""


def problems(recipe: Recipe, origin: Origin) -> list[Problem]:
    """Evaluators that name a judge which the recipe does not have."""
    found = []
    for name, spec in recipe.evaluators.items():
        judge = spec.options.get("judge")
        if isinstance(judge, str) and judge not in recipe.judges:
            remedy = suggestion(judge, recipe.judges) if recipe.judges else "describe it in a section judges"
            path = ("evaluators", name, "options", "judge")
            found.append(origin.problem(path, "there is no such judge", f"'{judge}'", remedy))
    return found


def with_judges(recipe: Recipe, directory: Path) -> Recipe:
    """`recipe` with every evaluator's judge in full, under the recipe's account.

    Concurrency is shared among the evaluator actors, so that the endpoint sees no more requests than stated.
    """
    evaluators = {}
    for name, spec in recipe.evaluators.items():
        judge = spec.options.get("judge")
        if isinstance(judge, str) and judge in recipe.judges:
            label, stated = judge, recipe.judges[judge]
        elif isinstance(judge, Mapping):
            label, stated = name, judge
        else:
            evaluators[name] = spec
            continue
        options = dict(spec.options) | {"judge": _in_full(recipe, label, stated, directory)}
        if "/" in str(options.get("prompt", "")):
            options["prompt"] = _path(directory, options["prompt"])
        evaluators[name] = spec.model_copy(update={"options": options})
    return recipe.model_copy(update={"evaluators": evaluators})


def _in_full(recipe: Recipe, label: str, stated: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    full = {**stated, "name": label, "account": f"{recipe.name}/{label}"}
    if isinstance(stated.get("cache"), str):
        full["cache"] = _path(directory, stated["cache"])
    concurrency = stated.get("concurrency", 8)
    if isinstance(concurrency, int):
        full["concurrency"] = max(1, concurrency // recipe.cluster.evaluators.actors.min)
    return full


def _path(directory: Path, path: str) -> str:
    return os.path.abspath(directory / Path(path).expanduser())
