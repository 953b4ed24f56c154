"""Models that a recipe names and does not train: checkpoints that exist, fixed merges, picks of earlier searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from search._recipe.fields import Text, at_least_one, number, plugin, reference, refusal
from search._recipe.models import Section
from search.errors import suggestion

PICKS = ("knee", "safest")


def _pick(value: Any) -> Any:
    text = str(value) if isinstance(value, str) else ""
    if text in PICKS or (text.startswith("best-") and len(text) > 5):
        return text
    # An id is given while a search runs, so no recipe can know it beforehand.
    raise refusal("must be knee, safest or best-OBJECTIVE", suggestion(value, PICKS))


class FrontPick(Section):
    """A pick of an earlier search: `front` names one of `searches`, `pick` a point of its front."""

    front: Annotated[Text, reference("searches", "search")]
    pick: Annotated[str, BeforeValidator(_pick)]


class MixFrom(Section):
    """A mixture that another entry found: `from` names one whose trainer is remix."""

    from_: Annotated[str, reference("models", "model"), Field(alias="from")]


class ExistingExpert(Section):
    """A checkpoint that exists: a directory relative to the recipe, or a hub id."""

    path: Text


class FixedMerge(Section):
    """A merge with given coefficients.

    Attributes:
        method: a file of `mergers/`, or "package.module:function".
        weights: model -> its weight; with a method that has `t` in place of weights (slerp), two models with shares.
        parameters: the method's other parameters.
        seed: of random masks.
    """

    method: Annotated[str, plugin("mergers")] = "linear"
    weights: Annotated[
        Mapping[Annotated[str, reference("models", "model")], Annotated[float, number(float("-inf"))]],
        AfterValidator(at_least_one),
    ]
    parameters: Mapping[str, Any] = {}
    seed: int = 0


class MergedExpert(Section):
    """A merge of models of this recipe with coefficients that are known beforehand."""

    merge: FixedMerge


KINDS = {"path": "<ExistingExpert>", "merge": "<MergedExpert>", "front": "<FrontPick>"}
"""The key that tells what an entry is; without one of them it is trained."""
