"""Roles and numbers: which model of a slice is the base, and what every parameter is for one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from .._errors import InputError
from .._parts import Part
from .._schema import Parameter
from .._settings import Scalar
from .._spec import Merge, Plain
from .document import Document, Slice, Source
from .settings import Scope, value_of, varies
from .vocabulary import base_role, beside_model, word

_Place = TypeVar("_Place")


@dataclass(frozen=True)
class Inputs:
    """The inputs of a slice in the order of the merge.

    Attributes:
        sources: all of them; the base first if there is one.
        based: whether the first is the base.
        unlisted: whether the last was added because base_model names it.
        scopes: settings of the slice and of what is around it, in order of precedence.
    """

    sources: tuple[Source, ...]
    based: bool
    unlisted: bool
    scopes: tuple[Scope, ...]

    @property
    def experts(self) -> tuple[Source, ...]:
        """Those that are merged."""
        return self.sources[1:] if self.based else self.sources

    @cached_property
    def varied(self) -> bool:
        """Whether any setting depends on the tensor."""
        return varies((*self.scopes, *(source.params for source in self.sources)))


def inputs_of(document: Document, part: Slice, where: str) -> Inputs:
    """The inputs of a slice by mergekit's rules on bases.

    A base that `models` does not list is added. To a method that knows no base it is one more input.

    Raises:
        InputError: the method needs a base and none is named, or the slice lacks it.
    """
    role = base_role(document.method)
    base = part.base or document.base
    sources = part.sources
    name = document.method.name
    if base is None:
        if role in ("required", "first"):
            remedy = "name one of the two" if role == "first" else "name the model that the others were fine-tuned from"
            raise InputError(f"{name} needs base_model; {remedy}")
        return Inputs(sources, False, False, (part.params, *document.scopes))
    unlisted = document.whole and all(source.model != base for source in sources)
    if unlisted:
        sources = (*sources, Source(base, None, {}))
    scopes = (part.params, *document.scopes)
    if role == "none":
        return Inputs(sources, False, unlisted, scopes)
    mine = [source for source in sources if source.model == base]
    if not mine:
        raise InputError(f"{where} lacks base_model {base}, from which {name} counts; list it as a source")
    others = tuple(source for source in sources if source.model != base)
    return Inputs((*mine, *others), role != "first", unlisted, scopes)


class Resolver:
    """Makes parts; a set of parameters is checked once."""

    def __init__(self, document: Document, index: Mapping[str, int], seed: int) -> None:
        self.document, self.index, self.seed = document, index, seed
        self._checked: set[tuple[Merge, int]] = set()

    def part(self, inputs: Inputs, name: str, names: Sequence[str], position: float, seen: Sequence[str]) -> Part:
        """One tensor of the output.

        Args:
            inputs: of its slice.
            name: in the output; filters of shared parameters see it.
            names: in each of the sources.
            position: among the layers of the slice, in [0, 1].
            seen: what filters of parameters beside a model see.
        """
        method = self.document.method
        places = tuple((self.index[source.model], own) for source, own in zip(inputs.sources, names, strict=True))
        base, experts = (places[0], places[1:]) if inputs.based else (None, places)
        given = self.given(inputs, name, seen[1:] if inputs.based else seen, position)
        given, experts = without_idle(method.name, given, experts)
        merge = Merge(method.name, tuple(given.items()), self.seed)
        try:
            self._check(merge, len(experts))
            params = merge.at(len(experts), name, position)
        except InputError as error:
            if inputs.varied:
                raise InputError(f"tensor {name}: {error}") from error
            raise
        return Part(name, method.name, tuple(params.items()), self.seed, experts, base)

    def given(self, inputs: Inputs, name: str, seen: Sequence[str], position: float) -> dict[str, Plain]:
        """What the file sets for one tensor, by our names; `seen` holds a name for each expert.

        Raises:
            InputError: a parameter that an expert needs is missing.
        """
        values: dict[str, Plain] = {}
        for parameter in self.document.method.parameters:
            value: Plain | None
            if parameter.name == "task_vectors":
                value = inputs.based
            elif parameter.per_expert:
                value = self._each(parameter, inputs, seen, position)
            elif beside_model(self.document.method, parameter):
                value = value_of(parameter, (inputs.experts[0].params, *inputs.scopes), seen[0], position)
            else:
                value = value_of(parameter, inputs.scopes, name, position)
            if value is not None:
                values[parameter.name] = value
        return values

    def _each(
        self, parameter: Parameter, inputs: Inputs, seen: Sequence[str], position: float
    ) -> tuple[Scalar, ...] | None:
        """One value per expert; None if none is given, so that the method's default holds."""
        found = [
            value_of(parameter, (source.params, *inputs.scopes), name, position)
            for source, name in zip(inputs.experts, seen, strict=True)
        ]
        if all(value is None for value in found) and not parameter.required:
            return None
        filled = [parameter.default if value is None else value for value in found]
        for source, value in zip(inputs.experts, filled, strict=True):
            if value is None:
                raise InputError(self._missing(parameter, inputs, source))
        return tuple(value for value in filled if value is not None)

    def _missing(self, parameter: Parameter, inputs: Inputs, source: Source) -> str:
        name, key = self.document.method.name, word(parameter)
        if inputs.unlisted and source is inputs.sources[-1]:
            return f"{name} has no base, so base_model is one more input; list {source.model} with its {key}"
        return f"{name} needs parameter '{key}' for {source.model}; give a value"

    def _check(self, merge: Merge, experts: int) -> None:
        if (merge, experts) not in self._checked:
            merge.check(experts)
            self._checked.add((merge, experts))


def without_idle(
    method: str, given: dict[str, Plain], experts: tuple[_Place, ...]
) -> tuple[dict[str, Plain], tuple[_Place, ...]]:
    """Leave out what a weighted sum takes at weight 0: exports of ours name the base so, and it need not be read."""
    shares = given.get("weight")
    if method != "linear" or not isinstance(shares, tuple) or all(share == 0 for share in shares):
        return given, experts
    kept = [position for position, share in enumerate(shares) if share != 0]
    return given | {"weight": tuple(shares[k] for k in kept)}, tuple(experts[k] for k in kept)
