"""What a recipe can name: every public file of a leaf package, or anything importable as "package.module:function".

The file name is the name: `mergers/ties.py` makes `method: ties`. There is no registry to edit and none to re-fill
inside a worker process; the folder listing is the list, so naming the choices imports nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from search.errors import suggestion

FOLDERS = {
    "mergers": "merge method",
    "evaluators": "evaluator kind",
    "trainers": "trainer",
    "search.samplers": "sampler",
}


_OUTSIDE = ContextVar("outside", default=True)


@contextmanager
def permitted(outside: bool) -> Iterator[None]:
    """Whether names of outside code are accepted; where they are not, none is imported either."""
    before = _OUTSIDE.set(outside)
    try:
        yield
    finally:
        _OUTSIDE.reset(before)


def outside_is_permitted() -> bool:
    """Whether names of outside code are accepted here."""
    return _OUTSIDE.get()


def choices(folder: str) -> tuple[str, ...]:
    """Names that `folder`, one of `FOLDERS`, offers, sorted. Imports none of them."""
    spec = importlib.util.find_spec(folder)
    assert folder in FOLDERS, folder
    assert spec is not None, folder
    roots = tuple(Path(root) for root in spec.submodule_search_locations or ())
    return tuple(sorted(file.stem for root in roots for file in root.glob("[!_]*.py")))


def is_outside(name: str) -> bool:
    """Whether `name` points at code outside the leaf packages ("package.module:function")."""
    return ":" in name


def unknown(folder: str, name: str) -> tuple[str, str] | None:
    """Why `name` cannot be used as (rule, remedy), or None if it can.

    Names of `folder` are only looked up; outside names are imported, since nothing less shows that they exist.
    """
    if not is_outside(name):
        listed = choices(folder)
        if name in listed:
            return None
        remedy = suggestion(name, listed)
        if "." in name:
            remedy = f'code of your own is named "package.module:function"; {remedy}'
        return f"unknown {FOLDERS[folder]}", remedy
    if not _OUTSIDE.get():
        return "code of your own is not permitted here", f"choose from {', '.join(choices(folder))}"
    module, _, function = name.partition(":")
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        return f'a {FOLDERS[folder]} of your own is written "package.module:function"', "check the spelling"
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # importing runs a stranger's module, which may raise anything
        cause = f"{type(error).__name__}: {error}"
        return f"cannot import module {module} ({cause})", "install it, or put its folder on PYTHONPATH"
    if not callable(getattr(loaded, function, None)):
        public = tuple(key for key, value in vars(loaded).items() if callable(value) and not key.startswith("_"))
        return f"module {module} has no function {function}", suggestion(function, public)
    return None


def resolve(folder: str, name: str) -> Callable[..., object]:
    """The function that `name` stands for: `folder`'s file of that name, or "package.module:function".

    Raises:
        ValueError: no such name; the text holds the rule, the name and the nearest choice.
    """
    problem = unknown(folder, name)
    if problem is not None:
        raise ValueError(f"{problem[0]} '{name}'; {problem[1]}")
    module, function = name.split(":") if is_outside(name) else (f"{folder}.{name}", name)
    found = getattr(importlib.import_module(module), function)
    assert callable(found), f"{module} must define a function {function}"
    return found  # type: ignore[no-any-return]  # getattr is Any; callable() above is the check
