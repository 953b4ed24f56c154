"""One merge, by value: what a candidate is, without tensors. Imports no torch until a method is looked up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ._errors import InputError, nearest
from ._schema import Method, Parameter, load_method
from ._settings import Filters, Gradient, Scalar, Setting, at, scalars
from ._types import per_expert

Value = Setting | tuple[Setting, ...]
"""A parameter's value; a tuple holds one setting per expert, in merge order."""

Plain = Scalar | tuple[Scalar, ...]
"""The same for one tensor, where every setting is a scalar."""

SMALLEST_SUM = 1e-8  # mergekit stops dividing below this, which silently changes what the method means; we refuse


@dataclass(frozen=True)
class Merge:
    """A merge method with its parameters; hashable and picklable.

    Attributes:
        method: a file of this folder, or "package.module:function".
        params: (name, value) pairs; kept sorted by name, so that equal merges compare and hash equal.
        seed: of the method's random masks; without effect on the others.
    """

    method: str
    params: tuple[tuple[str, Value], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", tuple(sorted(self.params, key=lambda pair: pair[0])))

    def check(self, experts: int) -> None:
        """Refuse what this method cannot merge for `experts` experts.

        Raises:
            InputError: unknown method or parameter, a missing one, a value outside its range or of the wrong
                kind or count, weights that sum to zero where the result is divided by that sum, too few or
                many experts. What filters and gradients make of a tensor is checked by `at`.
        """
        method = load_method(self.method)
        _check_count(method, experts)
        known = {parameter.name: parameter for parameter in method.parameters}
        names = [name for name, _ in self.params]
        for name, value in self.params:
            if name not in known:
                raise InputError(f"{self.method} has no parameter '{name}'; {nearest(name, known)}")
            if names.count(name) > 1:
                raise InputError(f"{self.method}: {name} is given twice; keep one of them")
            _check_value(self.method, known[name], value, experts)
        for name, parameter in known.items():
            if parameter.required and name not in names:
                raise InputError(f"{self.method} needs parameter '{name}'; give a value")
        if not any(isinstance(part, (Gradient, Filters)) for _, value in self.params for part in _each(value)):
            self.at(experts, "", 0.0)

    def at(self, experts: int, name: str, position: float) -> dict[str, Plain]:
        """Every parameter of the method for tensor `name`, defaults included; per-expert ones as tuples.

        Args:
            experts: how many.
            name: of the tensor, for filters.
            position: of the tensor among the layers, in [0, 1], for gradients.

        Raises:
            InputError: no filter matches; the weights of this tensor sum to zero where they are divided by.
        """
        method = load_method(self.method)
        given = dict(self.params)
        return resolved(
            method,
            experts,
            {key: _plain(value, name, position) for key, value in given.items()},
            where=f" in tensor {name}" if name else "",
        )


def resolved(method: Method, experts: int, given: Mapping[str, Plain], where: str = "") -> dict[str, Plain]:
    """Every parameter of `method`: those `given`, and defaults; per-expert ones as tuples.

    Raises:
        InputError: the sum of weights that is divided by is zero; `where` says in which tensor.
    """
    values: dict[str, Plain] = {}
    for parameter in method.parameters:
        value = given.get(parameter.name, parameter.default)
        if value is None:
            continue  # `check` has made sure that what is required is given
        values[parameter.name] = per_expert(_numbers(value), experts) if parameter.per_expert else value
    for parameter in method.parameters:
        if parameter.divides_by is not None and values[parameter.name]:
            numbers = per_expert(_numbers(values[parameter.divides_by]), experts)
            _check_sum(method.name, parameter.name, parameter.divides_by, numbers, where)
    return values


def _each(value: Value) -> tuple[Setting, ...]:
    return value if isinstance(value, tuple) else (value,)


def _plain(value: Value, name: str, position: float) -> Plain:
    if isinstance(value, tuple):
        return tuple(at(part, name, position) for part in value)
    return at(value, name, position)


def _numbers(value: Plain) -> float | tuple[float, ...]:
    if isinstance(value, tuple):
        return tuple(float(part) for part in value)
    return float(value)


def _check_count(method: Method, experts: int) -> None:
    low, high = method.min_experts, method.max_experts
    if experts < low or (high is not None and experts > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        raise InputError(f"{method.name} merges {wanted} expert(s), got {experts}; change the experts or the method")


def _check_value(method: str, parameter: Parameter, value: Value, experts: int) -> None:
    where = f"{method}: {parameter.name}"
    if isinstance(value, tuple):
        if not parameter.per_expert:
            raise InputError(f"{where} is one value for all experts, got {list(value)}; give one value")
        if len(value) != experts:
            raise InputError(f"{where} needs one value per expert ({experts}), got {len(value)}; give {experts}")
    for position, setting in enumerate(_each(value)):
        which = f" for expert {position + 1}" if isinstance(value, tuple) else ""
        found = scalars(setting)
        if not found:
            raise InputError(f"{where} is empty{which}; give at least one value")
        for scalar in found:
            _check_scalar(where, parameter, scalar, which)


def _check_scalar(where: str, parameter: Parameter, value: Scalar, which: str) -> None:
    if parameter.kind == "bool":
        if not isinstance(value, bool):
            raise InputError(f"{where} must be true or false, got {value!r}{which}; give one of them")
        return
    if parameter.kind == "text":
        if value not in parameter.options:
            options = ", ".join(parameter.options)
            raise InputError(f"{where} must be one of {options}, got {value!r}{which}; choose one of them")
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{where} must be a number, got {value!r}{which}; give a number")
    if not math.isfinite(value):
        raise InputError(f"{where} must be finite, got {value}{which}; give a finite number")
    if parameter.kind == "int" and value != int(value):
        raise InputError(f"{where} must be a whole number, got {value}{which}; give a whole number")
    if not parameter.low <= value <= parameter.high:
        bounds = f"[{parameter.low:g}, {parameter.high:g}]"
        raise InputError(f"{where} must lie in {bounds}, got {value:g}{which}; choose a value in that range")


def _check_sum(method: str, switch: str, of: str, numbers: tuple[float, ...], where: str) -> None:
    total = math.fsum(numbers)
    if abs(total) < SMALLEST_SUM:
        raise InputError(
            f"{method} with {switch} divides by the sum of {of}, which is {total:g} for {list(numbers)}{where}; "
            f"change a {of} or set {switch} to false"
        )


def weights(merge: Merge, experts: int) -> tuple[float, ...]:
    """The effective coefficient of each expert, for display.

    Weights after normalisation and lambda; for slerp (1 - t, t). Sparsified methods count for this much where
    an entry survives and (ties, dare_ties) all experts agree. What varies along the model counts with the mean
    of its values. A method without weights: equal shares.
    """
    method = load_method(merge.method)
    given = {key: _typical(value) for key, value in merge.params}
    values: dict[str, Plain | None] = {parameter.name: parameter.default for parameter in method.parameters}
    values.update(given)
    share, turn = values.get("weight"), values.get("t")
    if share is None:
        if isinstance(turn, (int, float)) and experts == 2:
            return (1.0 - turn, float(turn))
        return (1.0 / experts,) * experts
    numbers = per_expert(_numbers(share), experts)
    total = math.fsum(numbers)
    scale = values.get("lambda_")
    factor = float(scale) if isinstance(scale, (int, float)) else 1.0
    if values.get("normalize") and abs(total) >= SMALLEST_SUM:
        factor /= total
    return tuple(number * factor for number in numbers)


def _typical(value: Value) -> Plain:
    if isinstance(value, tuple):
        return tuple(_mean(part) for part in value)
    return _mean(value)


def _mean(setting: Setting) -> Scalar:
    found = scalars(setting)
    if isinstance(setting, (Gradient, Filters)) and all(type(part) in (int, float) for part in found):
        return math.fsum(float(part) for part in found) / len(found)
    return found[0]
