"""Which evaluators there are, and which options each takes: the folder and the signatures say, nothing else.

Imports no torch: a recipe is checked on a laptop.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ._errors import InputError
from ._types import Evaluator

Factory = Callable[..., Evaluator]

LOCAL = "a path, or the id of a model on the hub"
"""Beside the type of an option, `Annotated[str, LOCAL]`: relative paths start at the recipe."""


@dataclass(frozen=True)
class Option:
    """One keyword of an evaluator's factory.

    Attributes:
        name: keyword.
        annotation: its type, as written in the signature.
        default: default value; None for a required one.
        required: whether the recipe must give it.
    """

    name: str
    annotation: Any
    default: Any
    required: bool


def kind_names() -> tuple[str, ...]:
    """Names of the evaluators in this folder, sorted; imports none of them."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")))


def load_kind(name: str) -> Factory:
    """The factory of a kind: `exact_match`, or `package.module:function` for code outside.

    Raises:
        InputError: there is no such kind (with the nearest name), module or function.
    """
    if ":" in name:
        module_name, _, function_name = name.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise InputError(f"evaluator {name}: no module {error.name!r}; is it on PYTHONPATH?") from None
    else:
        names = kind_names()
        if name not in names:
            raise InputError(f"no evaluator {name!r}{_nearest(name, names)}; there are {', '.join(names)}")
        module, function_name = importlib.import_module(f".{name}", __package__), name
    factory = getattr(module, function_name, None)
    if not callable(factory):
        raise InputError(f"evaluator {name}: {module.__name__} has no function {function_name!r}")
    return factory  # type: ignore[no-any-return]  # getattr is Any; the contract tests check what it returns


def options_of(factory: Factory) -> tuple[Option, ...]:
    """The options of a factory, read from its signature, in its order."""
    hints = get_type_hints(factory, include_extras=True)
    return tuple(
        Option(
            name,
            hints.get(name, Any),
            None if parameter.default is parameter.empty else parameter.default,
            parameter.default is parameter.empty,
        )
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    )


def build(kind: str, options: Mapping[str, Any]) -> Evaluator:
    """The evaluator of a recipe entry.

    Raises:
        InputError: unknown kind, unknown option (with the nearest name), missing option, or a value that the
            evaluator refuses.
    """
    factory = load_kind(kind)
    known = options_of(factory)
    names = tuple(option.name for option in known)
    for given in options:
        if given not in names:
            listed = ", ".join(names) or "none"
            raise InputError(f"{kind} has no option {given!r}{_nearest(given, names)}; its options: {listed}")
    missing = [option.name for option in known if option.required and option.name not in options]
    if missing:
        raise InputError(f"{kind} needs the option {missing[0]!r}")
    return factory(**options)


def located(kind: str, options: Mapping[str, Any], resolve: Callable[[str], str]) -> dict[str, Any]:
    """`options` with paths made absolute by `resolve`.

    Raises:
        InputError: unknown kind.
    """
    paths = {option.name for option in options_of(load_kind(kind)) if _is_local(option.annotation)}
    return {
        name: resolve(value) if name in paths and isinstance(value, str) else value for name, value in options.items()
    }


def _is_local(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return LOCAL in get_args(annotation)[1:]
    return any(_is_local(part) for part in get_args(annotation))


def _nearest(name: str, names: tuple[str, ...]) -> str:
    found = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
