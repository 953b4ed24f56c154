"""Merging one tensor: from inputs as they are stored to the output's type, in float32, with one rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._checkpoint.reader import Reader
from .._errors import InputError
from .._maths.draw import Draw
from .._plan import Blocks, Fused, Plan, Ranked, Sparse, Weighted
from .._schema import TASK_VECTORS, Method
from .._spec import Plain
from .backend import backend
from .statistics import Inputs, Memory, Statistics, blocks
from .threads import in_threads, spans_of

FUSED_TYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Types that the kernels read and write; others pass through float32."""


def execute(
    method: Method,
    params: Mapping[str, Plain],
    draw: Draw,
    inputs: Inputs,
    out: Tensor,
    memory: Memory,
    threads: int = 1,
    refuse: Callable[[], None] = lambda: None,
) -> None:
    """Write the merge of `inputs` into `out`.

    Args:
        method: as loaded from its file.
        params: every parameter of it, as `Merge.at` gives them.
        draw: random numbers of this tensor.
        inputs: finite numbers.
        out: same shape and device, contiguous; float32, bfloat16 or float16.
        memory: what is known about these inputs.
        threads: how many may work on it; the result does not depend on their number.
        refuse: raises where an input is not finite. Called before something depends on it, so not at all where a
            weighted sum is finite: what is not finite does not vanish in one.

    Raises:
        InputError: a result is not finite, or too large for float16; what the method refuses.
    """
    extra: dict[str, Any] = {"draw": draw} if method.random else {}
    params = {name: value for name, value in params.items() if name != TASK_VECTORS.name}
    statistics = Statistics(inputs, memory, threads, refuse)
    if not statistics.size:
        return
    plan: Plan | None = method.plan(statistics, **params, **extra) if method.plan is not None else None
    if not isinstance(plan, Weighted) or (inputs.base is not None and plan.base == 0):
        refuse()
    flat = out.view(-1)
    if isinstance(plan, Fused):
        bad = _fused(plan, inputs, statistics, flat, threads)
    elif isinstance(plan, Blocks):
        bad = _blocked(plan, inputs, flat, threads)
    else:
        bad = _whole(method, dict(params) | extra, inputs, flat)
    if bad:
        refuse()
        if out.dtype == torch.float16:
            raise InputError(f"{bad} values of the merge exceed float16's range; write bfloat16 or float32")
        raise InputError(f"the merge holds {bad} values that are not finite; change the coefficients")


def merge_tensor(
    method: Method,
    params: Mapping[str, Plain],
    draw: Draw,
    origins: Sequence[tuple[Reader, str]],
    inputs: Inputs,
    out: Tensor,
    memory: Memory,
    threads: int = 1,
) -> None:
    """`execute`, for inputs of which nothing is known yet and an `out` of any layout and floating-point type.

    Args:
        method: as loaded from its file.
        params: every parameter of it.
        draw: random numbers of this tensor.
        origins: where the inputs come from, base first: for the error that blames one of them.
        inputs: what to merge.
        out: same shape and device.
        memory: what is known about these inputs.
        threads: how many may work on it.

    Raises:
        InputError: NaN or infinity in an input; see `execute`. Names the tensor.
    """
    refused: list[InputError] = []

    def refuse() -> None:
        if not memory.finite:
            refused.extend(_blamed(origins, inputs, threads))
            if refused:
                raise refused[0]
            memory.finite = True

    direct = out.is_contiguous() and out.dtype in FUSED_TYPES
    target = out if direct else torch.empty(inputs.shape, dtype=torch.float32, device=out.device)
    try:
        execute(method, params, draw, inputs, target, memory, threads, refuse)
    except InputError as error:
        if error in refused:
            raise
        raise InputError(f"tensor {draw.name}: {error}") from error
    if not direct:
        out.copy_(target)


def _blamed(origins: Sequence[tuple[Reader, str]], inputs: Inputs, threads: int) -> Iterator[InputError]:
    """An error for each input that holds NaN or infinity."""
    tensors = inputs.experts if inputs.base is None else (inputs.base, *inputs.experts)
    bad = in_threads(backend(tensors[0].device).nonfinite, tensors, threads)
    for (reader, name), count in zip(origins, bad, strict=True):
        if count:
            yield reader.blame(name, count)


def stored(reader: Reader, name: str, device: torch.device) -> Tensor:
    """Tensor `name` of `reader`, flat, on `device`, in a type that the kernels read."""
    tensor = reader.stored(name).to(device)
    return (tensor if tensor.dtype in FUSED_TYPES else tensor.to(torch.float32)).reshape(-1)


def _fused(plan: Fused, inputs: Inputs, statistics: Statistics, out: Tensor, threads: int) -> int:
    kernels = backend(out.device)
    masks = plan.masks if isinstance(plan, Sparse) else ()
    keys = [statistics.keys(i, mask)[0] if isinstance(mask, Ranked) else None for i, mask in enumerate(masks)]

    def span(ends: tuple[int, int]) -> int:
        return kernels.fused(inputs.base, inputs.experts, plan, out, *ends, keys)

    return sum(in_threads(span, spans_of(out.numel(), kernels.cut, threads), threads))


def _blocked(plan: Blocks, inputs: Inputs, out: Tensor, threads: int) -> int:
    def one(block: tuple[Tensor | None, tuple[Tensor, ...], int]) -> int:
        merged = plan.apply(*block).flatten()
        return _put(merged, out[block[2] : block[2] + merged.numel()])

    return sum(in_threads(one, blocks(inputs, whole_rows=plan.whole_rows), threads))


def _whole(method: Method, keywords: dict[str, Any], inputs: Inputs, out: Tensor) -> int:
    """The reference function on whole tensors: for methods without a plan, and those of other packages."""
    if inputs.base is not None and (method.needs_base or method.optional_base):
        keywords["base"] = inputs.base.to(torch.float32).view(inputs.shape)
    keywords["experts"] = [tensor.to(torch.float32).view(inputs.shape) for tensor in inputs.experts]
    merged = method.function(**keywords)
    if merged.shape != torch.Size(inputs.shape) or merged.dtype != torch.float32:
        raise InputError(
            f"{method.name} returned {merged.dtype} {list(merged.shape)}; "
            f"a method keeps type and shape, here torch.float32 {list(inputs.shape)}"
        )
    return _put(merged.reshape(-1), out)


def _put(merged: Tensor, out: Tensor) -> int:
    out.copy_(merged)
    return merged.numel() - int(torch.isfinite(out).sum())
