"""What is made of what: the graph of a recipe's models and searches.

Edges run from a model to what it is made of: the expert or baseline that a training starts from, the remix run whose
mixture it takes, the models of a fixed merge, the search whose front a model is picked from; and from a search of
`searches` to its experts.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from search._recipe.starts import FrontPick, MergedExpert, MixFrom
from search._recipe.training import Training
from search.errors import Problem

if TYPE_CHECKING:
    from search._recipe.problems import Origin
    from search.recipe import Recipe

REMIX = "remix"
"""The trainer whose result is a mixture and no model."""


class Step(NamedTuple):
    """One node: a model (expert or baseline), a search, or a pick of a search as the start of a training."""

    kind: Literal["model", "search", "pick"]
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "model" else f"{self.kind} {self.name}"


def pick_step(pick: FrontPick) -> Step:
    """The node of a pick; two trainings that start from one point share it."""
    return Step("pick", f"{pick.front}:{pick.pick}")


def graph(recipe: Recipe) -> dict[Step, tuple[Step, ...]]:
    """Every node -> what it is directly made of, in the recipe's order; the base is no node."""
    found: dict[Step, tuple[Step, ...]] = {}
    for name, entry in (dict(recipe.experts) | dict(recipe.baselines)).items():
        found[Step("model", name)] = tuple(_parents(entry, found))
    for name, spec in recipe.searches.items():
        found[Step("search", name)] = tuple(Step("model", expert) for expert in spec.experts)
    return found


def _parents(entry: object, found: dict[Step, tuple[Step, ...]]) -> Iterable[Step]:
    if isinstance(entry, MergedExpert):
        yield from (Step("model", name) for name in entry.merge.weights)
    picks = [entry] if isinstance(entry, FrontPick) else []
    if isinstance(entry, Training):
        picks += [entry.from_] if isinstance(entry.from_, FrontPick) else []
        if isinstance(entry.from_, str):
            yield Step("model", entry.from_)
        if isinstance(entry.mix, MixFrom):
            yield Step("model", entry.mix.from_)
    for pick in picks:
        found[pick_step(pick)] = (Step("search", pick.front),)
        yield pick_step(pick)


def ordered(recipe: Recipe) -> tuple[Step, ...]:
    """All nodes, each after what it is made of; otherwise in the recipe's order. The recipe has no cycle."""
    return tuple(graphlib.TopologicalSorter(graph(recipe)).static_order())


def closure(recipe: Recipe, names: Iterable[str]) -> tuple[Step, ...]:
    """The models `names` and all that they are made of, each once."""
    edges = graph(recipe)
    found: dict[Step, None] = {}
    left = [Step("model", name) for name in names]
    while left:
        step = left.pop(0)
        if step not in found:
            found[step] = None
            left += edges.get(step, ())
    return tuple(found)


def cycle(edges: Mapping[Step, tuple[Step, ...]]) -> tuple[Step, ...]:
    """A cycle of the graph, its first node again at the end; () if there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return tuple(reversed(error.args[1]))
    return ()


def problems(recipe: Recipe, origin: Origin) -> list[Problem]:
    """A cycle; a mixture that nothing finds; a mixture where a model is needed."""
    entries = dict(recipe.experts) | dict(recipe.baselines)
    found: list[Problem] = []
    looped = cycle(graph(recipe))
    if looped:
        first = next(step for step in looped if step.kind == "model")
        place = looped.index(first)
        looped = (*looped[place:-1], *looped[:place], first)
        section = "experts" if first.name in recipe.experts else "baselines"
        rule = f"is made of itself: {' -> '.join(map(str, looped))}"
        found.append(origin.problem((section, first.name), rule, None, "start one of them from something else"))
    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        for name, entry in models.items():
            if isinstance(entry, Training) and isinstance(entry.mix, MixFrom):
                source = entries.get(entry.mix.from_)
                if not (isinstance(source, Training) and source.trainer == REMIX):
                    rule = f"a mixture comes from a training with trainer: {REMIX}"
                    path = (section, name, "mix", "from")
                    found.append(origin.problem(path, rule, entry.mix.from_, "name one, or write the shares"))
    found += [_no_model(origin, path, name) for path, name in _used(recipe) if is_mixture(entries.get(name))]
    return found


def is_mixture(entry: object) -> bool:
    """Whether an entry makes a mixture and no model: it is neither merged nor scored."""
    return isinstance(entry, Training) and entry.trainer == REMIX


def _used(recipe: Recipe) -> Iterable[tuple[tuple[str | int, ...], str]]:
    """Every place where a model is named that is started from, merged or searched over."""
    for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines)):
        for name, entry in models.items():
            if isinstance(entry, Training) and isinstance(entry.from_, str):
                yield (section, name, "from"), entry.from_
            if isinstance(entry, MergedExpert):
                yield from (((section, name, "merge", "weights", used), used) for used in entry.merge.weights)
    for i, name in enumerate(recipe.search.experts):
        yield ("search", "experts", i), name
    for search, spec in recipe.searches.items():
        for i, name in enumerate(spec.experts):
            yield ("searches", search, "experts", i), name


def _no_model(origin: Origin, path: tuple[str | int, ...], name: str) -> Problem:
    rule = f"{name} makes a mixture and no model (trainer: {REMIX})"
    return origin.problem(path, rule, None, f"use it as `mix: {{from: {name}}}`")
