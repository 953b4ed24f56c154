"""A parameter's value along the model: one number, a gradient over the layers, or numbers by tensor name.

mergekit's language (0.1.5): a list is interpolated over the layers, filters are substrings of tensor names of which the
first that matches counts. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ._errors import InputError

Scalar = float | int | bool | str


@dataclass(frozen=True)
class Gradient:
    """Values at equal distances from the first layer to the last; numbers in between are interpolated, others step."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Filters:
    """(substring of a tensor's name, value) pairs, tried in order; "*" and "" match every name."""

    rules: tuple[tuple[str, Scalar | Gradient], ...]


Setting = Scalar | Gradient | Filters


def at(setting: Setting, name: str, position: float) -> Scalar:
    """The value of `setting` for tensor `name` at `position` of the layers, from 0 (first) to 1 (last).

    Raises:
        InputError: no filter matches; an empty gradient.
    """
    if isinstance(setting, Filters):
        found = next((value for part, value in setting.rules if part in ("", "*") or part in name), None)
        if found is None:
            parts = ", ".join(part for part, _ in setting.rules)
            raise InputError(f"no filter matches tensor {name} (filters: {parts}); add one with filter '*'")
        return at(found, name, position)
    if isinstance(setting, Gradient):
        return _between(setting.values, position)
    return setting


def scalars(setting: Setting) -> tuple[Scalar, ...]:
    """Every value that `setting` can take or interpolate between."""
    if isinstance(setting, Filters):
        return tuple(value for _, part in setting.rules for value in scalars(part))
    return setting.values if isinstance(setting, Gradient) else (setting,)


def _between(values: tuple[Scalar, ...], position: float) -> Scalar:
    if not values:
        raise InputError("a gradient needs at least one value, got []; give the values from first to last layer")
    place = min(1.0, max(0.0, position)) * (len(values) - 1)
    low = min(math.floor(place), max(0, len(values) - 2))
    if len(values) == 1:
        return values[0]
    first, second = values[low], values[low + 1]
    if any(isinstance(value, (bool, str)) for value in (first, second)):
        return second if place - low >= 1.0 else first
    assert isinstance(first, (int, float))
    assert isinstance(second, (int, float))
    part = place - low
    return (1 - part) * first + part * second  # mergekit's rounding: a density decides how many entries are kept


def layer_of(name: str) -> int | None:
    """The layer that tensor `name` belongs to, None outside the layers: 3 for `model.layers.3.mlp.up_proj.weight`."""
    match = re.match(r".*?\.(\d+)\.", name)
    return int(match[1]) if match else None


def position_of(name: str, layers: int) -> float:
    """Where tensor `name` stands in a gradient: layer / (layers - 1), 1 in a model of one layer, 0 outside the layers.

    That embeddings, final norm and head all stand at 0 is mergekit's rule.
    """
    layer = layer_of(name)
    if layer is None:
        return 0.0
    return 1.0 if layers <= 1 else layer / (layers - 1)


def layers_of(names: Iterable[str]) -> int:
    """How many layers a model with tensors `names` has."""
    return 1 + max((layer_of(name) or 0 for name in names), default=0)


def positions(names: Iterable[str]) -> Callable[[str], float]:
    """`position_of` the tensors of a model that has those of `names`."""
    layers = layers_of(names)
    return lambda name: position_of(name, layers)
