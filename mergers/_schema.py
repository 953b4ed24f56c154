"""The signature is the schema: what a method takes is read from its one function, and kept nowhere else."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from ._errors import InputError, nearest
from ._types import Choice, Count, DividesBySum, PerExpert, Range


@dataclass(frozen=True)
class Parameter:
    """One keyword of a method.

    Attributes:
        name: as in the signature.
        kind: `float`, `int`, `bool` or `text`.
        per_expert: whether it may hold one number per expert.
        low: smallest valid value (-inf: unbounded).
        high: largest valid value (inf: unbounded).
        search: default bounds when it is searched, None if it is not.
        step: it is searched on multiples of this, None: everywhere.
        default: value when it is left out, None if it is required.
        required: whether it must be given.
        divides_by: parameter whose plain sum the result is divided by while this switch is true.
        options: the words that a text may be.
    """

    name: str
    kind: Literal["float", "int", "bool", "text"]
    per_expert: bool
    low: float
    high: float
    search: tuple[float, float] | None
    default: float | bool | str | None
    required: bool
    divides_by: str | None = None
    options: tuple[str, ...] = ()
    step: float | None = None


TASK_VECTORS = Parameter("task_vectors", "bool", False, 0.0, 1.0, None, False, False)
"""Of methods whose base is optional: merge the differences from the base, and add it back."""


@dataclass(frozen=True)
class Method:
    """One merge method, as its signature states it.

    Attributes:
        name: of its file, or "package.module:function".
        function: the reference: whole tensors in plain torch.
        plan: the same merge as data for the fused kernels (`_plan`), None if the method has none.
        needs_base: whether it must be given a base.
        optional_base: whether it can do with and without; parameter `task_vectors` of a `Merge` chooses.
        random: whether it draws random masks.
        min_experts: fewest experts.
        max_experts: most experts, None if unbounded.
        parameters: in the signature's order.
    """

    name: str
    function: Callable[..., Any]
    plan: Callable[..., Any] | None
    needs_base: bool
    optional_base: bool
    random: bool
    min_experts: int
    max_experts: int | None
    parameters: tuple[Parameter, ...]


def method_names() -> tuple[str, ...]:
    """Methods that a recipe can name: the public files of this folder. Imports none of them."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py")))


@cache
def load_method(name: str) -> Method:
    """The method `name`: a file of this folder, or "package.module:function".

    Raises:
        InputError: no such method, or a function that does not state its parameters.
    """
    outside = ":" in name
    if not outside and name not in method_names():
        raise InputError(f"unknown merge method '{name}'; {nearest(name, method_names())}")
    module, _, function = name.partition(":") if outside else (f"mergers.{name}", ":", name)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"cannot load merge method '{name}': {error}; check spelling and PYTHONPATH") from error
    return _read(name, found)


def _read(name: str, function: Callable[..., Any]) -> Method:
    hints = get_type_hints(function, include_extras=True)
    arguments = inspect.signature(function).parameters
    notes = {key: getattr(hints.get(key), "__metadata__", ()) for key in arguments}
    if "experts" not in arguments:
        raise InputError(f"merge method '{name}' has no argument 'experts'; see mergers/_types.py for the signature")
    count = next((note for note in notes["experts"] if isinstance(note, Count)), Count(1))
    keywords = [key for key in arguments if key not in ("base", "experts", "draw")]
    optional = "base" in arguments and arguments["base"].default is None
    parameters = tuple(_parameter(name, arguments[key], hints.get(key), notes[key]) for key in keywords)
    return Method(
        name=name,
        function=function,
        # In a module of other people's any function may be called plan.
        plan=getattr(inspect.getmodule(function), "plan", None) if function.__module__.startswith("mergers.") else None,
        needs_base="base" in arguments and not optional,
        optional_base=optional,
        random="draw" in arguments,
        min_experts=count.low,
        max_experts=count.high,
        parameters=(*parameters, TASK_VECTORS) if optional else parameters,
    )


def _parameter(method: str, argument: inspect.Parameter, hint: Any, notes: tuple[Any, ...]) -> Parameter:
    required = argument.default is inspect.Parameter.empty
    default = None if required else argument.default
    if getattr(hint, "__origin__", hint) is bool:
        divides = next((note.of for note in notes if isinstance(note, DividesBySum)), None)
        return Parameter(argument.name, "bool", False, 0.0, 1.0, None, default, required, divides)
    words = next((note.options for note in notes if isinstance(note, Choice)), None)
    if words is not None:
        return Parameter(argument.name, "text", False, 0.0, 0.0, None, default, required, options=words)
    bounds = next((note for note in notes if isinstance(note, (Range, PerExpert))), None)
    if bounds is None:
        raise InputError(
            f"merge method '{method}': keyword '{argument.name}' needs bounds; annotate Range, PerExpert or Choice"
        )
    low, high, search, step = bounds
    kind: Literal["float", "int"] = "int" if getattr(hint, "__origin__", hint) is int else "float"
    per_expert = isinstance(bounds, PerExpert)
    return Parameter(argument.name, kind, per_expert, low, high, search, default, required, step=step)
