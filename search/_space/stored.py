"""A merge's parameters as JSON, for the database, cards and reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergers._settings import Filters, Gradient, Setting, scalars
from mergers._spec import Merge, Value


def to_json(merge: Merge) -> dict[str, Any]:
    """Parameters as JSON types: numbers, lists of one per expert, and what varies along the model as a mapping.

    `{"gradient": [...]}` holds values from first to last layer, `{"filters": [[part of a name, value], ...]}` values by
    tensor name.
    """
    return {
        name: [_plain(part) for part in value] if isinstance(value, tuple) else _plain(value)
        for name, value in merge.params
    }


def from_json(method: str, params: Mapping[str, Any], seed: int) -> Merge:
    """The inverse: `from_json(m.method, to_json(m), m.seed) == m`."""
    read = {
        name: tuple(map(_setting, value)) if isinstance(value, list) else _setting(value)
        for name, value in params.items()
    }
    return Merge(method, tuple(read.items()), seed)


def typical(merge: Merge) -> dict[str, Any]:
    """Parameters for a table: what varies along the model as the mean of its values (text: the first)."""
    return {
        name: [_mean(part) for part in value] if isinstance(value, tuple) else _mean(value)
        for name, value in merge.params
    }


def varies(value: Value) -> bool:
    """Whether a parameter depends on the tensor."""
    return any(isinstance(part, (Filters, Gradient)) for part in (value if isinstance(value, tuple) else (value,)))


def _plain(setting: Setting) -> Any:
    if isinstance(setting, Gradient):
        return {"gradient": list(setting.values)}
    if isinstance(setting, Filters):
        return {"filters": [[part, _plain(value)] for part, value in setting.rules]}
    return setting


def _setting(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "gradient" in value:
        return Gradient(tuple(value["gradient"]))
    return Filters(tuple((part, _setting(inner)) for part, inner in value["filters"]))


def _mean(setting: Setting) -> Any:
    found = scalars(setting)
    if not varies(setting) or any(isinstance(part, (bool, str)) for part in found):
        return found[0]
    return sum(map(float, found)) / len(found)
