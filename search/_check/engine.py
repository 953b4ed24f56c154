"""Whether this machine has the engine that a recipe names."""

from __future__ import annotations

import importlib.util

from search.errors import Problem
from search.recipe import Recipe


def problems(recipe: Recipe) -> tuple[Problem, ...]:
    """An engine that is not installed; of a cluster that is joined, its own machines decide."""
    if recipe.cluster.evaluators.engine != "vllm" or recipe.cluster.address != "local":
        return ()
    path = ("cluster", "evaluators", "engine")
    if importlib.util.find_spec("vllm") is None:
        rule, remedy = "vLLM is not installed here", "run in an environment with vllm==0.33.0, or write transformers"
        return (recipe.problem(path, rule, None, remedy),)
    if not recipe.cluster.evaluators.gpus:
        return (recipe.problem(path, "vLLM needs a GPU", None, "write gpus: 1 beside it, or engine: transformers"),)
    return ()
