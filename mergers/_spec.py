"""One merge, by value: what a candidate is, without tensors. Imports no torch until a method is looked up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._errors import InputError, nearest
from ._schema import Method, Parameter, load_method
from ._types import per_expert

Value = float | bool | tuple[float, ...]
"""A parameter's value; a tuple holds one number per expert, in merge order."""

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
        object.__setattr__(self, "params", tuple(sorted(self.params)))

    def check(self, experts: int) -> None:
        """Refuse what this method cannot merge for `experts` experts.

        Raises:
            InputError: unknown method or parameter, a missing one, a value outside its range or of the wrong
                kind or count, weights that sum to zero where the result is divided by that sum, too few or
                many experts.
        """
        method = load_method(self.method)
        _check_count(method, experts)
        given = dict(self.params)
        known = {parameter.name: parameter for parameter in method.parameters}
        for name, value in self.params:
            if name not in known:
                raise InputError(f"{self.method} has no parameter '{name}'; {nearest(name, known)}")
            _check_value(self.method, known[name], value, experts)
        for name, parameter in known.items():
            if parameter.required and name not in given:
                raise InputError(f"{self.method} needs parameter '{name}'; give a value")
            divides = parameter.divides_by if given.get(name, parameter.default) else None
            if divides is not None:
                numbers = given.get(divides, known[divides].default)
                assert numbers is not None, divides  # without a default it is required, and stands before its switch
                _check_sum(self.method, name, divides, per_expert(_number(numbers), experts))


def _number(value: Value) -> float | tuple[float, ...]:
    assert not isinstance(value, bool), value
    return value


def _check_count(method: Method, experts: int) -> None:
    low, high = method.min_experts, method.max_experts
    if experts < low or (high is not None and experts > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        raise InputError(f"{method.name} merges {wanted} expert(s), got {experts}; change the experts or the method")


def _check_value(method: str, parameter: Parameter, value: Value, experts: int) -> None:
    where = f"{method}: {parameter.name}"
    if parameter.kind == "bool":
        if not isinstance(value, bool):
            raise InputError(f"{where} must be true or false, got {value!r}; give one of them")
        return
    if isinstance(value, tuple):
        if not parameter.per_expert:
            raise InputError(f"{where} is one number for all experts, got {list(value)}; give one number")
        if len(value) != experts:
            raise InputError(f"{where} needs one value per expert ({experts}), got {len(value)}; give {experts}")
    numbers = value if isinstance(value, tuple) else (value,)
    for position, number in enumerate(numbers):
        which = f" for expert {position + 1}" if isinstance(value, tuple) else ""
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise InputError(f"{where} must be a number, got {number!r}{which}; give a number")
        if not math.isfinite(number):
            raise InputError(f"{where} must be finite, got {number}{which}; give a finite number")
        if not parameter.low <= number <= parameter.high:
            bounds = f"[{parameter.low:g}, {parameter.high:g}]"
            raise InputError(f"{where} must lie in {bounds}, got {number:g}{which}; choose a value in that range")


def _check_sum(method: str, switch: str, of: str, numbers: tuple[float, ...]) -> None:
    total = math.fsum(numbers)
    if abs(total) < SMALLEST_SUM:
        raise InputError(
            f"{method} with {switch} divides by the sum of {of}, which is {total:g} for {list(numbers)}; "
            f"change a {of} or set {switch} to false"
        )


def weights(merge: Merge, experts: int) -> tuple[float, ...]:
    """The effective coefficient of each expert, for display.

    Weights after normalisation and lambda; for slerp (1 - t, t). Sparsified methods count for this much where
    an entry survives and (ties, dare_ties) all experts agree. A method without weights: equal shares.
    """
    method = load_method(merge.method)
    values: dict[str, Value | None] = {parameter.name: parameter.default for parameter in method.parameters}
    values.update(merge.params)
    share, turn = values.get("weight"), values.get("t")
    if share is None:
        if isinstance(turn, (int, float)) and experts == 2:
            return (1.0 - turn, float(turn))
        return (1.0 / experts,) * experts
    numbers = per_expert(_number(share), experts)
    total = math.fsum(numbers)
    scale = values.get("lambda_")
    factor = float(scale) if isinstance(scale, (int, float)) else 1.0
    if values.get("normalize") and abs(total) >= SMALLEST_SUM:
        factor /= total
    return tuple(number * factor for number in numbers)
