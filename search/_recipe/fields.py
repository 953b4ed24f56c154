"""Field types of the recipe: each states its rule, its bounds and the remedy once, in words for a person.

Built on pydantic's validators; what they raise carries `rule`, `remedy` and optionally `value` in the error's context,
which `search._recipe.problems` turns into problems with a file and a line. References (a data name, an evaluator) are
checked against the names in the validation context; without a context only the shape is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from search import plugins
from search.errors import suggestion

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B?")
_UNITS = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_UNITS = {"Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def refusal(rule: str, remedy: str = "", **value: str | None) -> PydanticCustomError:
    """The error that validators raise; give `value=` to show something else than the whole input (None: nothing)."""
    return PydanticCustomError("recipe", "{rule}", {"rule": rule, "remedy": remedy, **value})


def not_yet(what: str, remedy: str = "") -> PydanticCustomError:
    """The error for what this version reads and cannot do."""
    return refusal(f"not available yet: {what}", remedy)


def later(what: str, remedy: str = "remove it for now") -> AfterValidator:
    """A field that is parsed in full and then refused, whatever its value; null stays null."""

    def check(value: Any) -> Any:
        if value is not None:
            raise not_yet(what, remedy)
        return value

    return AfterValidator(check)


def whole_number(value: Any, low: int, high: int | None = None, remedy: str = "write a whole number") -> int:
    """`value` if it is an integer in [low, high]; 3.0 and true are not integers."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal("must be a whole number", remedy)
    if value < low or (high is not None and value > high):
        raise refusal(f"must be at least {low}" if high is None else f"must be between {low} and {high}", remedy)
    return value


def whole(low: int, high: int | None = None, remedy: str = "write a whole number") -> BeforeValidator:
    """An integer in [low, high]."""
    return BeforeValidator(lambda value: whole_number(value, low, high, remedy))


def number(
    low: float, high: float = math.inf, remedy: str = "write a number", *, open_low: bool = False
) -> BeforeValidator:
    """A finite number in [low, high], or in (low, high] if `open_low`."""

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise refusal("must be a number", remedy)
        if not math.isfinite(value):
            raise refusal("must be finite", remedy)
        if not (low < value if open_low else low <= value) or value > high:
            if math.isinf(high):
                raise refusal(f"must be {'above' if open_low else 'at least'} {low:g}", remedy)
            between = f"above {low:g} and at most {high:g}" if open_low else f"between {low:g} and {high:g}"
            raise refusal(f"must be {between}", remedy)
        return float(value)

    return BeforeValidator(check)


def flag() -> BeforeValidator:
    """A boolean."""

    def check(value: Any) -> Any:
        if not isinstance(value, bool):
            raise refusal("must be true or false")
        return value

    return BeforeValidator(check)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        if value is None:
            raise refusal("must be text", "write a value after the colon")
        raise refusal("must be text", "" if isinstance(value, bool) else "quote it if it is meant as text")
    if not value.strip():
        raise refusal("must not be empty", value="''")
    return value


def one_of(*choices: str, later: Iterable[str] = (), later_pattern: str = "(?!)", what: str = "") -> BeforeValidator:
    """One of `choices`; names of `later`, or matching `later_pattern`, are known and not available yet."""

    def check(value: Any) -> Any:
        text = _text(value)
        if text in choices:
            return text
        if text in later or re.fullmatch(later_pattern, text):
            raise not_yet(f"{what} {text}".strip(), f"choose from {', '.join(choices)}")
        raise refusal(f"must be one of {', '.join(choices)}", suggestion(text, (*choices, *later)))

    return BeforeValidator(check)


def plugin(folder: str, later: Iterable[str] = (), *, outside: bool = True) -> BeforeValidator:
    """A name that `search.plugins` resolves; names of `later` (and outside code, unless `outside`) come later."""

    def check(value: Any) -> Any:
        text = _text(value)
        listed = plugins.choices(folder)
        if text not in listed and (text in later or (plugins.is_outside(text) and not outside)):
            raise not_yet(f"{plugins.FOLDERS[folder]} {text}", f"choose from {', '.join(listed)}")
        problem = plugins.unknown(folder, text)
        if problem is not None:
            raise refusal(*problem)
        return text

    return BeforeValidator(check)


def reference(kind: str, what: str) -> AfterValidator:
    """A name that another part of the recipe must define: `kind` is the key of the validation context."""

    def check(value: str, info: ValidationInfo) -> str:
        known = (info.context or {}).get(kind)
        if known is not None and value not in known:
            raise refusal(f"unknown {what}", suggestion(value, known))
        return value

    return AfterValidator(check)


def unique(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that names something twice."""
    for i, item in enumerate(value):
        if item in value[:i]:
            raise refusal(f"names '{item}' twice", "keep one", value=None)
    return value


def at_least_one(value: Any) -> Any:
    """Refuse an empty list or mapping."""
    if not value:
        raise refusal("must not be empty", "name at least one", value=None)
    return value


def shares(value: Mapping[str, float]) -> Mapping[str, float]:
    """Shares of a mix: they sum to 1, so that a wrong one is noticed instead of rescaled."""
    total = math.fsum(value.values())
    if value and abs(total - 1) > 1e-6:
        text = " + ".join(f"{share:g}" for share in value.values())
        raise refusal("shares must sum to 1", "change them so that they do", value=f"{text} = {total:g}")
    return value


def _name(value: Any) -> str:
    text = _text(value)
    if "{" in text:
        raise refusal("a name with {placeholders} needs a matrix", "add `matrix:`, or use letters, digits, . _ -")
    if not NAME.fullmatch(text) or text.startswith("."):
        raise refusal("a name is at most 64 letters, digits, . _ - and starts with a letter or digit", "rename it")
    return text


def _language(value: Any) -> str:
    text = _text(value)
    if not _LANGUAGE.fullmatch(text):
        raise refusal("must be a language code", "write a code such as en or pt-BR")
    return text


def _size(value: Any) -> int:
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        size = float(value)
    elif found is not None:
        size = float(found[1]) * {**_UNITS, **_BINARY_UNITS}.get(found[2], 1)
    else:
        raise refusal("must be a size in bytes", "write a size such as 5GB, 500MB or 2GiB")
    if size < 1000:
        raise refusal("must be at least 1kB", "write a size such as 5GB, 500MB or 2GiB")
    return int(size)


def as_list(value: Any) -> Any:
    """One text stands for a list of one."""
    return [value] if isinstance(value, str) else value


def tuple_of(make: Callable[[tuple[Any, ...]], tuple[Any, ...]] = unique) -> AfterValidator:
    """A non-empty list whose items `make` accepts (no repeats unless told otherwise)."""
    return AfterValidator(lambda value: make(at_least_one(value)))


Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str, BeforeValidator(_name)]
Language = Annotated[str, BeforeValidator(_language)]
Size = Annotated[int, BeforeValidator(_size)]
Share = Annotated[float, number(0, 1, "write a share such as 0.5")]
Seed = Annotated[int, whole(0, 2**32 - 1, "write a whole number such as 0")]
