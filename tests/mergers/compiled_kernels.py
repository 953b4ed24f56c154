"""Prints the PTX of the Triton kernels for bfloat16 tensors, as JSON; run as a module. Needs no GPU.

Usage: python -m tests.mergers.compiled_kernels COMPUTE_CAPABILITY
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from mergers._execution.kernels.triton import BLOCK, OPTIONS

ALIGNED = [["tt.divisibility", 16]]


def ptx(kernel: Any, arguments: dict[str, Any], constants: dict[str, object], capability: int) -> str:
    """The code of `kernel` for arguments of Triton types (None: left out), pointers and counts multiples of 16."""
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)
    given: dict[tuple[int, ...], object] = {}
    aligned: dict[tuple[int, ...], object] = {}

    def typed(value: Any, path: tuple[int, ...]) -> Any:
        if isinstance(value, tuple):
            return tuple(typed(item, (*path, i)) for i, item in enumerate(value))
        if value is None:
            given[path] = None
            return "constexpr"
        if value.startswith("*") or value == "i64":
            aligned[path] = ALIGNED
        return value

    signature = {}
    for i, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name], given[(i,)] = "constexpr", constants[name]
        else:
            signature[name] = typed(arguments[name], (i,))
    source = compiler.ASTSource(kernel, signature, given, aligned)
    return str(compiler.compile(source, target=target, options=OPTIONS).asm["ptx"])


def main() -> None:
    """A weighted sum of three tensors; sign consensus of a random, a banded and a ranked expert."""
    kernels = importlib.import_module("mergers._execution.kernels._triton_kernels")
    capability, pointer, numbers = int(sys.argv[1]), "*bf16", ("fp32",) * 3
    common = {"out": pointer, "broken": "*i64", "count": "i64"}
    weighted = {"inputs": (pointer,) * 3, "coefficients": numbers, **common}
    sparse = {
        "base": pointer,
        "experts": (pointer,) * 3,
        "keys": (None, None, "*u8"),
        "table": "*i64",
        "lambda_": "fp32",
        "origin": "i32",
        **dict.fromkeys(("votes", "factors", "weights", "above", "upto"), numbers),
        **common,
    }
    constants: dict[str, object] = {
        "KINDS": ("random", "band", "ranked"),
        "HIGH": (True, False, False),
        "FRESH": (True, False, False),
        "CONSENSUS": True,
        "WEIGHTED_ELECTION": True,
        "DIVIDE": "weights",
        "BLOCK": BLOCK,
    }
    codes = (
        ptx(kernels.weighted_kernel, weighted, {"BLOCK": BLOCK}, capability),
        ptx(kernels.sparse_kernel, sparse, constants, capability),
    )
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
