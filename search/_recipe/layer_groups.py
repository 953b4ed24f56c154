"""`search.layer_groups`: which tensors share coefficients."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import model_validator

from search._recipe.fields import one_of, refusal, unique, whole, whole_number
from search._recipe.models import Section

KINDS = ("attention", "mlp", "embeddings", "norms")
_EXAMPLE = "write layer_groups: 4, {layers: 8}, {by: discrepancy, groups: 4} or [attention, mlp]"


class LayerGroups(Section):
    """Groups of tensors, each with coefficients of its own.

    A number stands for that many equal groups by depth, a list for kinds of tensors.

    Attributes:
        by: "depth" = runs of layers as equal as can be; "discrepancy" = runs of layers that the experts changed about
            equally; "kind" = by what a tensor belongs to.
        groups: how many runs.
        layers: of each run, in place of their number; the last one may be shorter.
        kinds: of `KINDS`. Norms not listed go with embeddings; what else is not listed is one more group.
    """

    by: Annotated[Literal["depth", "discrepancy", "kind"], one_of("depth", "discrepancy", "kind")] = "depth"
    groups: Annotated[int, whole(1, None, "write a number of groups")] | None = None
    layers: Annotated[int, whole(1, None, "write a number of layers")] | None = None
    kinds: tuple[Annotated[str, one_of(*KINDS)], ...] = ()

    @property
    def single(self) -> bool:
        """Whether there is one set of coefficients for the whole model."""
        return self.by == "depth" and self.groups == 1

    @model_validator(mode="after")
    def _complete(self) -> LayerGroups:
        counted = (self.groups is not None) + (self.layers is not None)
        if self.by == "kind" and (counted or not self.kinds):
            raise refusal("groups by kind list the kinds alone", f"write [{', '.join(KINDS[:2])}]", value=None)
        if self.by != "kind" and self.kinds:
            raise refusal("kinds are for groups by kind", _EXAMPLE, value=None)
        if self.by == "depth" and counted != 1:
            raise refusal("groups by depth have a number of groups or of layers", _EXAMPLE, value=None)
        if self.by == "discrepancy" and (self.groups is None or self.layers is not None):
            raise refusal("groups by discrepancy have a number of groups", _EXAMPLE, value=None)
        unique(self.kinds)
        return self


def as_layer_groups(value: Any) -> Any:
    """The short forms as the long one."""
    if isinstance(value, (list, tuple)):
        return {"by": "kind", "kinds": value}
    if isinstance(value, (dict, LayerGroups)):
        return value
    return {"groups": whole_number(value, 1, None, _EXAMPLE)}
