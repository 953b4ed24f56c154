"""Parameters of a file: values read by their kind, and found by mergekit's order of precedence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import InputError, nearest
from .._schema import Method, Parameter
from .._settings import Filters, Gradient, Scalar, Setting, at
from .vocabulary import beside_model, without_effect, words

Scope = Mapping[str, Setting]
"""What one place of a file sets: our name of a parameter -> its setting."""


def scope(method: Method, written: Any, where: str, *, of_one_model: bool = False) -> tuple[Scope, tuple[str, ...]]:
    """Read one `parameters` mapping.

    Args:
        method: whose parameters.
        written: the mapping; None is an empty one.
        where: how errors call it.
        of_one_model: whether it stands beside a model; what is shared by all models has no effect there.

    Returns:
        The settings, and notes on what has no effect.

    Raises:
        InputError: a parameter that is misspelt, or not of its kind.
    """
    if written is None:
        return {}, ()
    if not isinstance(written, Mapping):
        raise InputError(f"{where} must be a mapping, got {written!r}; write name: value")
    known = words(method)
    found: dict[str, Setting] = {}
    notes = []
    for key, value in written.items():
        parameter = known.get(str(key))
        if parameter is None:
            if not without_effect(method, str(key)):
                raise InputError(f"{method.name} has no parameter '{key}' ({where}); {nearest(str(key), known)}")
            if key != "int8_mask":
                notes.append(f"{key} has no effect on {method.name} ({where})")
        elif of_one_model and not beside_model(method, parameter):
            notes.append(f"{key} has no effect beside a model, it is one value for the whole merge ({where})")
        else:
            found[parameter.name] = _setting(parameter, value, f"{key} ({where})")
    return found, tuple(notes)


def value_of(parameter: Parameter, scopes: Sequence[Scope], name: str, position: float) -> Scalar | None:
    """The value for tensor `name` from the first of `scopes` that has one; a scope whose filters all miss has none.

    Args:
        parameter: which.
        scopes: from the highest precedence to the lowest.
        name: of the tensor, for filters.
        position: of the tensor among the layers, in [0, 1], for gradients.

    Raises:
        InputError: between two whole numbers of a gradient there is no whole number.
    """
    for settings in scopes:
        setting = settings.get(parameter.name)
        if setting is None or not _applies(setting, name):
            continue
        value = at(setting, name, position)
        if parameter.kind != "int" or not isinstance(value, float):
            return value
        if not value.is_integer():
            raise InputError(f"{parameter.name} of tensor {name} is {value:g}; a gradient must give whole numbers")
        return int(value)
    return None


def varies(scopes: Sequence[Scope]) -> bool:
    """Whether any setting depends on the tensor."""
    return any(isinstance(setting, (Gradient, Filters)) for settings in scopes for setting in settings.values())


def _applies(setting: Setting, name: str) -> bool:
    return not isinstance(setting, Filters) or any(part in ("", "*") or part in name for part, _ in setting.rules)


def _setting(parameter: Parameter, value: Any, where: str) -> Setting:
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return _scalar(parameter, value, where)
    if not value:
        raise InputError(f"{where} is an empty list; give at least one value")
    if not any(isinstance(part, Mapping) for part in value):
        return _gradient(parameter, value, where)
    return Filters(tuple(_rule(parameter, part, where) for part in value))


def _gradient(parameter: Parameter, values: list[Any], where: str) -> Gradient:
    return Gradient(tuple(_scalar(parameter, value, where) for value in values))


def _rule(parameter: Parameter, rule: Any, where: str) -> tuple[str, Scalar | Gradient]:
    if not isinstance(rule, Mapping) or "value" not in rule or set(rule) - {"filter", "value"}:
        raise InputError(f"a filter of {where} holds filter and value, got {rule!r}; write it so")
    part, value = rule.get("filter"), rule["value"]
    if part is not None and not isinstance(part, str):
        raise InputError(f"a filter of {where} is part of a tensor's name, got {part!r}; quote it")
    return "*" if part is None else part, (
        _gradient(parameter, value, where) if isinstance(value, list) and value else _scalar(parameter, value, where)
    )


def _scalar(parameter: Parameter, value: Any, where: str) -> Scalar:
    """One value. YAML reads `1e-3` as text; mergekit turns it into the number it looks like, so do we."""
    if parameter.kind == "bool":
        if isinstance(value, bool):
            return value
        raise InputError(f"{where} must be true or false, got {value!r}; correct it")
    if parameter.kind == "text":
        if isinstance(value, str):
            return value
        raise InputError(f"{where} must be one of {', '.join(parameter.options)}, got {value!r}; correct it")
    try:
        if not isinstance(value, bool):
            number = float(value)
            return int(number) if parameter.kind == "int" and number.is_integer() else number
    except (TypeError, ValueError):
        pass
    raise InputError(f"{where} must be a number, got {value!r}; correct it")
