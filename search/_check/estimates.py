"""What a run will cost, as a short table for people."""

from __future__ import annotations

from typing import NamedTuple

from search._check.items import Items
from search._check.machine import Needs, size
from search._recipe.chains import is_mixture
from search.recipe import Recipe, Training

CHARACTERS_PER_TOKEN = 3.0  # between English (about 4) and Arabic or Hindi (2 and less)


class Estimate(NamedTuple):
    """One row of the table."""

    what: str
    amount: str


def estimates(recipe: Recipe, parameters: int, items: Items, needs: Needs) -> tuple[Estimate, ...]:
    """The rows, in the order of the run."""
    models = {**recipe.experts, **recipe.baselines}
    trained = {name: model for name, model in models.items() if isinstance(model, Training)}
    times = {name: 1 if model.tune is None else model.trials for name, model in trained.items()}
    sequences = sum(recipe.steps(name) * model.batch * times[name] for name, model in trained.items())
    steps = sum(recipe.steps(name) * times[name] for name in trained)
    trials = sum(model.trials for model in trained.values() if model.tune is not None)
    candidates = recipe.search.candidates + sum(spec.candidates for spec in recipe.searches.values())
    unmerged = 1 + sum(not is_mixture(model) for model in models.values())
    search, report = (sum(count[i] for count in items.counts.values()) for i in (0, 1))
    scored = (candidates + unmerged) * search
    tokens = items.characters / CHARACTERS_PER_TOKEN
    methods = f"{len(recipe.search.methods)} methods" if len(recipe.search.methods) > 1 else recipe.search.methods[0]
    actors, workers = recipe.cluster.evaluators, recipe.cluster.trainers
    return (
        Estimate("base", f"{parameters / 1e6:,.4g} M parameters"),
        Estimate(
            "to train",
            f"{len(trained)} models, {steps:,} steps, {sequences:,} sequences"
            + (f"; {trials} trials are part of it" if trials else ""),
        ),
        Estimate(
            "to score",
            f"{recipe.search.candidates} merges by {methods}, {unmerged} models as they are"
            + (f"; {candidates - recipe.search.candidates} merges in earlier searches" if recipe.searches else ""),
        ),
        Estimate("items", f"{search:,} for each in the search, {report:,} to confirm the front"),
        Estimate("search cost", f"{scored:,} items, about {2 * parameters * tokens * scored:.1e} FLOPs"),
        Estimate("memory", f"{size(needs.actor_bytes)} of weights in each of {actors.actors} evaluator actors"),
        Estimate(
            "", f"{size(needs.training_bytes)} of weights and optimizer for one training ({workers.workers} workers)"
        ),
        Estimate("disk", f"{size(needs.expert_bytes)} for experts, {size(needs.export_bytes)} for exports"),
    )
