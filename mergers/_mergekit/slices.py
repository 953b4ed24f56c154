"""A document's slices written out as parts: which tensors of which layers of which models make each output tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .._errors import InputError
from .._parts import Part
from .document import Document, Slice
from .headers import Headers, Stack, place, single_stack, stacks
from .resolving import Inputs, Resolver, inputs_of

_FIRST = re.compile(
    r"(?:^|[._])(?:wte|wpe|shared|relative_pe)\.|emb"
)  # tensors before the layers, in all of mergekit's families
_LAST = re.compile(r"embed_out")
_BUFFERS = re.compile(r"(?:rotary_emb\.inv_freq|\.attn\.(?:masked_)?bias|position_ids)$")  # old files store them


@dataclass(frozen=True)
class Layout:
    """The tensors of an output.

    Attributes:
        parts: in its order.
        layers: how many; None if `models` was written: as many as the models have.
        notes: what was left out.
    """

    parts: tuple[Part, ...]
    layers: int | None
    notes: tuple[str, ...]


def lay_out(document: Document, headers: Mapping[str, Headers], index: Mapping[str, int], seed: int) -> Layout:
    """Write `document` out tensor by tensor.

    Args:
        document: what to merge.
        headers: of its models, by reference.
        index: of its models, in the blueprint.
        seed: of random masks.

    Raises:
        InputError: layers or tensors that a model lacks, a base that a slice lacks, parameters that the method refuses.
    """
    builder = _Builder(document, headers, Resolver(document, index, seed))
    return builder.whole() if document.whole else builder.sliced()


class _Builder:
    def __init__(self, document: Document, headers: Mapping[str, Headers], resolver: Resolver) -> None:
        self.document, self.headers, self.resolver = document, headers, resolver
        self.skipped: dict[str, None] = {}
        self._found: dict[str, dict[str, Stack]] = {}

    def whole(self) -> Layout:
        inputs = inputs_of(self.document, self.document.slices[0], "the merge")
        models = [source.model for source in inputs.sources]
        counts = {model: {key: len(stack.layers) for key, stack in self._stacks(model).items()} for model in models}
        for model in models[1:]:
            if counts[model] != counts[models[0]]:
                raise InputError(
                    f"{model} has layers {_counted(counts[model])}, {models[0]} {_counted(counts[models[0]])}; "
                    "merge models of one shape, or write slices"
                )
        found = self._stacks(models[0])
        rows = self._agreed(inputs, {model: self.headers[model].names for model in models})
        parts = [self._part(inputs, name, [name] * len(models), place(name, found)) for name in rows]
        parts += self._head(inputs)
        return Layout(tuple(parts), None, self._notes())

    def sliced(self) -> Layout:
        slices = [
            (number, part, inputs_of(self.document, part, f"slice {number}"))
            for number, part in enumerate(self.document.slices, 1)
        ]
        parts = list(self._outside(slices[0][2], first=True))
        layer = 0
        for number, part, inputs in slices:
            length = _length(part, number)
            for offset in range(length):
                position = offset / (length - 1) if length > 1 else 1.0
                parts += self._layer(inputs, layer, offset, position)
                layer += 1
        if layer == 0:
            raise InputError("the slices hold no layer; give a layer_range with layers")
        parts += self._outside(slices[-1][2], first=False)
        parts += self._head(slices[-1][2])
        return Layout(tuple(parts), layer, self._notes())

    def _layer(self, inputs: Inputs, layer: int, offset: int, position: float) -> Iterator[Part]:
        numbers = {}
        for source in inputs.sources:
            assert source.layers is not None, source
            numbers[source.model] = source.layers[0] + offset
            stack = self._stack(source.model)
            if source.layers[1] > len(stack.layers):
                raise InputError(
                    f"layer_range {list(source.layers)} of {source.model}: it has {len(stack.layers)} layers; "
                    "choose layers that it has"
                )
        rests = {model: self._stack(model).layers[number] for model, number in numbers.items()}
        prefix = self._stack(inputs.sources[0].model)
        for rest in self._agreed(inputs, rests):
            names = [self._stack(s.model).name(numbers[s.model], rest) for s in inputs.sources]
            yield self._part(inputs, prefix.name(layer, rest), names, position)

    def _outside(self, inputs: Inputs, *, first: bool) -> Iterator[Part]:
        """Tensors outside the layers: those before them or those after."""
        names = {}
        for source in inputs.sources:
            inside = self._stack(source.model).prefix + "."
            outside = (name for name in self.headers[source.model].names if not name.startswith(inside))
            names[source.model] = tuple(name for name in outside if is_first(name) == first)
        for name in self._agreed(inputs, names):
            yield self._part(inputs, name, [name] * len(inputs.sources), 0.0)

    def _head(self, inputs: Inputs) -> list[Part]:
        """The output head: written if any input stores one; one that ties it gives its embedding."""
        heads = [self.headers[source.model].head for source in inputs.sources]
        head = next((name for name in heads if name is not None), None)
        if head is None:
            return []
        names = []
        for source, stored in zip(inputs.sources, heads, strict=True):
            name = stored or self.headers[source.model].embedding
            if name is None:
                raise InputError(f"{source.model} has neither {head} nor an embedding; merge models of one kind")
            names.append(name)
        # Filters see the head's name in every model, also where its embedding stands in.
        return [self._part(inputs, head, names, 0.0, seen=[head] * len(names))]

    def _agreed(self, inputs: Inputs, names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """Names that all inputs have, heads apart. Buffers that only some store are left out, as mergekit does."""
        heads = {self.headers[model].head for model in names}
        first = inputs.sources[0].model
        common = []
        held = {model: frozenset(own) for model, own in names.items()}
        for name in dict.fromkeys(name for own in names.values() for name in own):
            if name in heads:
                continue
            lacking = next((model for model in names if name not in held[model]), None)
            if lacking is None:
                common.append(name)
            elif _BUFFERS.search(name):
                self.skipped[f"{name.rsplit('.', 1)[-1]} is left out: not every model stores it"] = None
            else:
                holder = next(model for model in (first, *names) if name in held[model])
                raise InputError(f"{lacking} lacks tensor {name.lstrip('.')} of {holder}; merge models of one shape")
        return tuple(common)

    def _part(
        self, inputs: Inputs, name: str, names: Sequence[str], position: float, seen: Sequence[str] | None = None
    ) -> Part:
        return self.resolver.part(inputs, name, names, position, seen or names)

    def _stack(self, model: str) -> Stack:
        return single_stack(self._stacks(model), model)

    def _stacks(self, model: str) -> dict[str, Stack]:
        if model not in self._found:
            self._found[model] = stacks(self.headers[model])
        return self._found[model]

    def _notes(self) -> tuple[str, ...]:
        return tuple(self.skipped)


def is_first(name: str) -> bool:
    """Whether a tensor outside the layers stands before them (embeddings) rather than after (norm, head)."""
    return _FIRST.search(name) is not None and _LAST.search(name) is None


def _length(part: Slice, number: int) -> int:
    lengths = {source.model: source.layers[1] - source.layers[0] for source in part.sources if source.layers}
    if len(set(lengths.values())) != 1:
        counted = ", ".join(f"{model}: {length}" for model, length in lengths.items())
        raise InputError(f"the sources of slice {number} must have as many layers ({counted}); change a layer_range")
    return next(iter(lengths.values()))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{prefix}: {count}" for prefix, count in counts.items()) or "none"
