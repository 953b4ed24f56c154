"""Compilation by numba: machine code for this processor, without the GIL, kept on disk between processes.

The cache lies where numba puts it: under NUMBA_CACHE_DIR if set, else in `__pycache__` beside these files, else (a
read-only installation) in the user's cache directory. Where none of them can be written, every process compiles anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

# numba reads its tables of types and functions at the first call: half a second, at import instead.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()

# Divisions by zero give inf or nan, as in numpy. No fastmath: the same bytes on every machine.
_compiled: Any = partial(numba.njit, nogil=True, error_model="numpy")


def kernel(function: Function) -> Function:
    """A compiled function that Python calls; compiled on first use, or loaded from the cache."""
    dispatcher = _compiled(function)
    with suppress(RuntimeError):  # numba: no place that can be written
        dispatcher._cache = _Cache(function)
    return cast(Function, dispatcher)


def inlined(function: Function) -> Function:
    """A function for use in kernels, merged into each."""
    return cast(Function, _compiled(function, forceinline=True))


def instruction(function: Callable[..., Any]) -> Any:
    """A function `(typing context, argument types) -> (signature, emitter)` as an instruction for kernels."""
    return intrinsic(function)


_FunctionCache: Any = FunctionCache  # its methods have no types


class _Cache(_FunctionCache):  # type: ignore[misc]  # a base class without types
    """numba asks only whether the file of the kernel itself has changed, not those that it takes functions from."""

    def _index_key(self, signature: object, codegen: object) -> tuple[object, ...]:
        return (*super()._index_key(signature, codegen), _sources())

    def save_overload(self, signature: object, data: object) -> None:
        with suppress(OSError):  # a full disk takes time from the next process, nothing else
            super().save_overload(signature, data)


@cache
def _sources() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.blake2b(b"\0".join(file.read_bytes() for file in files), digest_size=8).hexdigest()
