"""What a method does at special coefficients, found by asking it: on small random tensors, in float64.

A search wastes evaluations on merges that differ in name only: weights whose common scale drops out, corners that are
one of the inputs. Which these are follows from a method's mathematics; a declaration could be wrong, and code from
outside has none.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ._errors import InputError
from ._schema import load_method
from ._spec import Merge

_ROOM = 32, 4  # rows and columns, and more for each expert: of outliers and of rank every expert must have some
_SAME = 1e-9
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def reproduced(merge: Merge, experts: int) -> int | None:
    """Which input `merge` gives back: 0 for the base, i for the i-th expert; None for neither."""
    merged = _merged(merge, experts)
    if merged is None:
        return None
    found = (i for i, tensor in enumerate(_inputs(experts)) if float((merged - tensor).abs().max()) < _SAME)
    return next(found, None)


@cache
def scale_free(name: str, experts: int) -> bool:
    """Whether only the ratios of the weights of method `name` count."""
    method = load_method(name)
    if not any(parameter.name == "weight" and parameter.per_expert for parameter in method.parameters):
        return False
    shares = tuple(0.3 + 0.1 * i for i in range(experts))
    merges = [Merge(name, _needed(name, ("weight", tuple(scale * share for share in shares)))) for scale in (1.0, 2.0)]
    first, second = (_merged(merge, experts) for merge in merges)
    return first is not None and second is not None and float((first - second).abs().max()) < _SAME


@cache
def idle(name: str, parameter: str, experts: int) -> bool:
    """Whether `parameter` of method `name` changes nothing between its bounds of search, weights being alike."""
    bounds = next(p.search for p in load_method(name).parameters if p.name == parameter)
    if bounds is None:
        return False
    low, high = bounds
    found = [_merged(Merge(name, _needed(name, (parameter, low + share * (high - low)))), experts) for share in _SHARES]
    known = [merged for merged in found if merged is not None]
    return len(known) > 1 and all(float((known[0] - merged).abs().max()) < _SAME for merged in known[1:])


def _needed(name: str, *given: tuple[str, Any]) -> tuple[tuple[str, Any], ...]:
    """`given`, and the middle of its bounds for every other parameter that has no default."""
    known = {key for key, _ in given}
    middles = tuple(
        (p.name, sum(p.search or (0.0, 1.0)) / 2)
        for p in load_method(name).parameters
        if p.required and p.name not in known
    )
    return (*given, *middles)


def _merged(merge: Merge, experts: int) -> Any:
    """The merge of the probe's tensors; None if the method refuses it."""
    from ._maths.draw import Draw

    method = load_method(merge.method)
    base, *others = _inputs(experts)
    try:
        merge.check(experts)
        values: dict[str, Any] = merge.at(experts, "probe", 0.5)
        if values.pop("task_vectors", False) or method.needs_base:
            values["base"] = base
        if method.random:
            values["draw"] = Draw.of(merge.seed, "probe")
        return method.function(experts=others, **values)
    except InputError:
        return None


@cache
def _inputs(experts: int) -> tuple[Any, ...]:
    import torch

    generator = torch.Generator().manual_seed(20241021)
    rows = _ROOM[0] + _ROOM[1] * experts
    return tuple(torch.randn((rows, rows - 1), generator=generator, dtype=torch.float64) for _ in range(experts + 1))
