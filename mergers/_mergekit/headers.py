"""What reading a merge needs to know of a model: names and types of its tensors, from headers alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from .._errors import InputError

_LAYER = re.compile(r"(.*?)\.(\d+)(\..+)")


class Headers(Protocol):
    """The part of `Checkpoint` that is needed."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tensors."""

    @property
    def head(self) -> str | None:
        """The stored output head."""

    @property
    def embedding(self) -> str | None:
        """The input embedding, which is the head of a model that stores none."""

    def dtype(self, name: str) -> str:
        """Type of a tensor, as torch calls it."""


@dataclass(frozen=True)
class Planned:
    """A model that an earlier document of the same file will write."""

    names: tuple[str, ...]
    head: str | None
    embedding: str | None
    types: Mapping[str, str]

    def dtype(self, name: str) -> str:
        """Type of a tensor, as torch calls it."""
        return self.types[name]


@dataclass(frozen=True)
class Stack:
    """The layers of a model: tensor `PREFIX.3.mlp.up_proj.weight` is `.mlp.up_proj.weight` of layer 3."""

    prefix: str
    layers: tuple[tuple[str, ...], ...]

    def name(self, layer: int, rest: str) -> str:
        """The tensor's whole name."""
        return f"{self.prefix}.{layer}{rest}"


def stacks(headers: Headers) -> dict[str, Stack]:
    """The stacks of layers of a model by prefix: numbers from 0 on without a gap."""
    found: dict[str, dict[int, list[str]]] = {}
    for name in headers.names:
        match = _LAYER.fullmatch(name)
        if match:
            found.setdefault(match[1], {}).setdefault(int(match[2]), []).append(match[3])
    return {
        prefix: Stack(prefix, tuple(tuple(layers[number]) for number in range(len(layers))))
        for prefix, layers in found.items()
        if sorted(layers) == list(range(len(layers)))
    }


def single_stack(found: Mapping[str, Stack], model: str) -> Stack:
    """The one stack of layers of `model`, among those `found`.

    Raises:
        InputError: it has none, or several.
    """
    if len(found) != 1:
        which = ", ".join(found) or "none"
        raise InputError(f"slices need a model with one stack of layers, {model} has: {which}; write models instead")
    return next(iter(found.values()))


def place(name: str, found: Mapping[str, Stack]) -> float:
    """Where tensor `name` stands in a gradient: layer / (layers - 1) of its stack, 1 in a stack of one, else 0."""
    match = _LAYER.fullmatch(name)
    if match is None or match[1] not in found:
        return 0.0
    layers = len(found[match[1]].layers)
    return int(match[2]) / (layers - 1) if layers > 1 else 1.0
