"""Layer groups of a run: what the recipe asks for, laid over the tensors of its base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from search._recipe.layer_groups import LayerGroups
from search.errors import Problem, UserError
from search.recipe import Recipe

from .discrepancy import discrepancy, natural_cuts
from .groups import WHOLE, Groups, LayoutError, by_depth, by_kind, equal_cuts, layers_of

if TYPE_CHECKING:
    from search.experts import Model
    from search.store import Store


def groups_of(asked: LayerGroups, names: Sequence[str], sizes: Callable[[], Sequence[float]]) -> Groups:
    """The groups that a recipe asks for.

    Args:
        asked: the recipe's key.
        names: of the base's tensors.
        sizes: discrepancy of each layer, first to last; asked for only if the groups depend on it.

    Raises:
        LayoutError: the base has no such layers or tensors.
    """
    if asked.single:
        return WHOLE
    if asked.by == "kind":
        return by_kind(names, asked.kinds)
    _, layers = layers_of(names)
    count = asked.groups if asked.groups is not None else -(-layers // (asked.layers or layers))
    if count > layers:
        raise LayoutError(f"{count} layer groups, but the base has {layers} layers", f"write at most {layers}")
    if asked.by == "discrepancy":
        return by_depth(names, natural_cuts(sizes(), count))
    if asked.layers is not None:
        return by_depth(names, range(0, layers, asked.layers))
    return by_depth(names, equal_cuts(layers, count))


def run_groups(recipe: Recipe, store: Store, base: Model, experts: Sequence[Model]) -> Groups:
    """The groups of a run. Discrepancies are read from the weights once, and kept in the database.

    Args:
        recipe: of the run.
        store: its database.
        base: the base.
        experts: of the search, in merge order.

    Raises:
        UserError: the base cannot be cut so.
        InputError: a checkpoint that cannot be opened.
    """
    from mergers._checkpoint.checkpoint import open_checkpoint

    if recipe.search.layer_groups.single:
        return WHOLE
    hashes = [model.hash for model in (base, *experts)]

    def sizes() -> Sequence[float]:
        known: Any = store.get("discrepancy")
        if known is None or known["hashes"] != hashes:
            found = discrepancy(str(base.path), [model.reference for model in experts])
            known = {"hashes": hashes, "layers": list(found)}
            store.put("discrepancy", known)
        return tuple(known["layers"])

    try:
        return groups_of(recipe.search.layer_groups, open_checkpoint(base.path).names, sizes)
    except LayoutError as error:
        raise UserError(_problem(recipe, error)) from None


def problem_of(recipe: Recipe, names: Sequence[str]) -> Problem | None:
    """Why a base with these tensors cannot be cut as the recipe asks, from names alone; None if it can."""
    try:
        groups_of(recipe.search.layer_groups, names, lambda: (1.0,) * layers_of(names)[1])
    except LayoutError as error:
        return _problem(recipe, error)
    return None


def _problem(recipe: Recipe, error: LayoutError) -> Problem:
    return recipe.problem(("search", "layer_groups"), error.rule, None, error.remedy)
