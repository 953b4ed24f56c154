"""A recipe's judges before anything is scored: whether each can be asked, and what asking will cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search._check.estimates import CHARACTERS_PER_TOKEN, Estimate
from search._check.items import Items
from search._recipe.yaml_text import KeyPath
from search.errors import Problem
from search.recipe import Recipe

if TYPE_CHECKING:
    from evaluators.judges.settings import Judge

PROMPT_TOKENS = 350  # of a prompt's own text, between English and Hindi
ORDERS = {"judge_winrate": 2}
"""Kinds that ask about an item more than once for each vote."""


def used(recipe: Recipe) -> Iterator[tuple[str, KeyPath, Judge]]:
    """(evaluator, where its judge is described, judge), for each evaluator that names one."""
    from evaluators.judges.settings import judge_of

    for name, spec in recipe.evaluators.items():
        if isinstance(spec.options.get("judge"), dict):
            judge = judge_of(spec.options["judge"])
            named = judge.name in recipe.judges
            yield name, ("judges", judge.name) if named else ("evaluators", name, "options", "judge"), judge


def inspect(recipe: Recipe) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Problems (a key that is missing, an endpoint that is down) and warnings, by asking each endpoint once."""
    problems, warnings = [], []
    asked = {path: judge for _, path, judge in used(recipe)}
    for path, judge in asked.items():
        from evaluators.judges.probe import probe

        found = probe(judge)
        if found.problem:
            problems.append(recipe.problem(path, found.problem))
        if found.warning:
            warnings.append(recipe.problem(path, found.warning))
    idle = [name for name in recipe.judges if ("judges", name) not in asked]
    warnings += [recipe.problem(("judges", name), "no evaluator names this judge", None, "remove it") for name in idle]
    return tuple(problems), tuple(warnings)


def estimates(recipe: Recipe, items: Items) -> tuple[Estimate, ...]:
    """For each judge, the most questions of a search, and their cost where prices are stated."""
    questions: dict[str, int] = {}
    money: dict[str, float] = {}
    judges: dict[str, Judge] = {}
    models = recipe.search.candidates + 1 + len(recipe.experts) + len(recipe.baselines)
    for name, _, judge in used(recipe):
        spec = recipe.evaluators[name]
        texts = ORDERS.get(spec.kind, 1)
        count = models * items.counts[name][0] * texts * judge.votes
        length = PROMPT_TOKENS + items.characters / CHARACTERS_PER_TOKEN
        length += texts * int(spec.options.get("max_new_tokens", 256))
        questions[judge.name] = questions.get(judge.name, 0) + count
        most = judge.cost(int(count * length), count * (judge.max_tokens or 0))
        money[judge.name] = money.get(judge.name, 0.0) + most
        judges[judge.name] = judge
    rows = []
    for name, judge in judges.items():
        cost = f", at most about {money[name]:,.4g} by its prices" if judge.prices else ", no prices stated"
        limit = "" if judge.limit is None else f" (limit {judge.limit:g})"
        rows.append(Estimate(f"judge {name}", f"up to {questions[name]:,} questions in the search{cost}{limit}"))
    return tuple(rows)
