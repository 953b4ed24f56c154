"""The exact weighted sum of LoRA adapters, as one adapter.

`sum_i w_i s_i B_i A_i` is one product: `[w_1 s_1 B_1, w_2 s_2 B_2, ...] @ [A_1; A_2; ...]`, of rank sum r_i. PEFT calls
it `cat`; its `linear` mixes the A and the B apart from each other, which is another thing (cross terms B_i A_j).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .._checkpoint.checkpoint import Checkpoint
from .._errors import InputError
from .._types import per_expert
from .adapter import Adapter, Change, Lazy, LowRank, Rows

if TYPE_CHECKING:
    from torch import Tensor

Weights = Sequence[float] | Callable[[str], Sequence[float]]
"""One weight per adapter, or a function from a tensor's name to those (per-layer gradients, filters)."""

_ONE = 1e-9  # how far a sum of weights may be from 1: rounding of a sum of decimals, and nothing one would notice


def linear_weights(method: str, params: Mapping[str, object], adapters: int) -> tuple[float, tuple[float, ...]]:
    """(c, w) with which a merge of models b + d_i is `c b + sum w_i d_i`.

    Args:
        method: of the merge.
        params: all its parameters, as `Merge.at` gives them.
        adapters: how many experts.

    Raises:
        InputError: another method than `linear` and `task_arithmetic`; linear weights that sum to 0 and are to be
            normalized.
    """
    if method not in ("linear", "task_arithmetic"):
        raise InputError(
            f"a merge by {method} cannot be kept as low-rank factors: it is not linear in the experts; "
            "use linear or task_arithmetic, or write a full model"
        )
    weights = per_expert(params["weight"], adapters)  # type: ignore[arg-type]  # checked by the method's schema
    scale, total = 1.0, sum(weights)
    if params["normalize"]:
        if total == 0:
            raise InputError(f"{method}: the weights sum to 0 and cannot be normalized; change one of them")
        scale, total = 1 / total, 1.0
    if method == "linear":
        return total, tuple(weight * scale for weight in weights)
    scale *= float(params["lambda_"])  # type: ignore[arg-type]  # checked by the method's schema
    return 1.0, tuple(weight * scale for weight in weights)


def adapter_weights(method: str, params: Mapping[str, object], adapters: int) -> tuple[float, ...]:
    """The weights with which a merge of models b + d_i is b plus the weighted sum of the d_i, so itself an adapter.

    `task_arithmetic` is so with any weights, `linear` where its weights sum to 1.

    Raises:
        InputError: see `linear_weights`; linear weights with another sum, which scale the base.
    """
    total, weights = linear_weights(method, params, adapters)
    if abs(total - 1) > _ONE:
        raise InputError(
            f"{method} weights {list(weights)} sum to {total:g}, so the merge scales the base and is no adapter; "
            "set normalize: true, use task_arithmetic, or write a full model"
        )
    return weights


def combine(adapters: Sequence[Adapter], weights: Weights, base: Checkpoint | None = None) -> Adapter:
    """The adapter whose change is `sum_i weights[i] * change_i`, exactly (before the rounding of what is written).

    Factors are joined, so ranks add up; an adapter of weight 0 adds none. Weight and scaling go into B, and the
    result has scaling 1: A stays as trained, bit for bit, so that only one factor is rounded when it is written.
    Replaced tensors and rows become the base's plus the weighted differences from it; with `base` at hand those that
    are copies of it, as PEFT saves beside an embedding's factors, are left out. Nothing else is read yet.

    Args:
        adapters: of one base.
        weights: see `adapter_weights`.
        base: needed only where some adapters replace a tensor (or row) and the weights of those do not sum to 1.

    Raises:
        InputError: no or wrong weights; a DoRA adapter; shapes or layouts that differ; a tensor that needs `base`;
            rows of an embedding that another adapter changes otherwise.
    """
    names = sorted(dict.fromkeys(name for adapter in adapters for name in adapter.changes), key=_order(adapters))
    changes = {}
    for name in names:
        parts = _parts(adapters, weights, name)
        change = _combined(name, parts, base) if parts else Change()
        if change != Change():
            changes[name] = change
    if not changes:
        raise InputError("all weights are 0, so the merge is the base itself; give one adapter another weight")
    bases = dict.fromkeys(adapter.base_name for adapter in adapters)
    tasks = dict.fromkeys(adapter.task_type for adapter in adapters)
    label = "merge of " + ", ".join(adapter.name for adapter in adapters)
    return Adapter(label, changes, next(iter(bases)), next(iter(tasks)) if len(tasks) == 1 else None)


Part = tuple[Adapter, Change, float]


def _parts(adapters: Sequence[Adapter], weights: Weights, name: str) -> list[Part]:
    numbers = tuple(float(weight) for weight in (weights(name) if callable(weights) else weights))
    if len(numbers) != len(adapters) or not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{len(adapters)} adapters need as many finite weights, got {list(numbers)} for {name}")
    pairs = zip(adapters, numbers, strict=True)
    return [(adapter, adapter.changes[name], weight) for adapter, weight in pairs if weight and name in adapter.changes]


def _combined(name: str, parts: list[Part], base: Checkpoint | None) -> Change:
    if any(change.rows for _, change, _ in parts):
        return Change(rows=_rows(name, parts, base))
    low = [(adapter, change.low_rank, weight) for adapter, change, weight in parts if change.low_rank]
    for adapter, factors, _ in low:
        adapter.refuse_magnitude(name)
        if (factors.shape, factors.layout) != (low[0][1].shape, low[0][1].layout):
            first = low[0]
            raise InputError(
                f"{adapter.name} changes {name} as {factors.layout} {list(factors.shape)}, {first[0].name} as "
                f"{first[1].layout} {list(first[1].shape)}; combine adapters of one base"
            )
    whole = [(adapter, change.replacement, weight) for adapter, change, weight in parts if change.replacement]
    replacement = _whole(name, whole, base)
    return Change(replacement, _joined([(factors, weight) for _, factors, weight in low]))


def _joined(parts: list[tuple[LowRank, float]]) -> LowRank | None:
    if not parts:
        return None
    first, rank = parts[0][0], sum(factors.rank for factors, _ in parts)
    a = Lazy((rank, first.a.shape[1]), "float32", partial(_stack_a, [factors for factors, _ in parts]))
    b = Lazy((first.b.shape[0], rank), "float32", partial(_stack_b, parts))
    return LowRank(a, b, 1.0, first.layout)


def _stack_a(parts: list[LowRank]) -> Tensor:
    import torch

    return torch.cat([factors.a.read().to(torch.float32) for factors in parts])


def _stack_b(parts: list[tuple[LowRank, float]]) -> Tensor:
    import torch

    return torch.cat([factors.b.read().to(torch.float32) * (weight * factors.scale) for factors, weight in parts], 1)


def _whole(name: str, parts: list[tuple[Adapter, Lazy, float]], base: Checkpoint | None) -> Lazy | None:
    if not parts:
        return None
    shape, rest = parts[0][1].shape, 1 - sum(weight for _, _, weight in parts)
    for adapter, lazy, _ in parts:
        if lazy.shape != shape:
            raise InputError(f"{adapter.name} holds {name} as {list(lazy.shape)}, {parts[0][0].name} as {list(shape)}")
    start = _start(name, shape, base) if base is not None or abs(rest) > _ONE else None
    if start is not None and all(_same(lazy, start) for _, lazy, _ in parts):
        return None
    pairs = [(lazy, weight) for _, lazy, weight in parts]
    return Lazy(shape, "float32", partial(_sum_whole, start if abs(rest) > _ONE else None, pairs))


def _same(lazy: Lazy, base: Lazy) -> bool:
    import torch

    return lazy.shape == base.shape and torch.equal(lazy.read(), base.read().to(getattr(torch, lazy.dtype)))


def _start(name: str, shape: tuple[int, ...] | None, base: Checkpoint | None) -> Lazy:
    if base is None:
        raise InputError(f"{name} is replaced by some adapters, with weights that do not sum to 1; give the base too")
    source = name if name in base or base.head or base.embedding is None else base.embedding
    if source not in base or (shape is not None and base.shape(source) != shape):
        raise InputError(f"base {base.path} holds no {name} of shape {list(shape or ())}; give the adapters' own base")
    return Lazy(base.shape(source), base.dtype(source), partial(base.read, source))


def _sum_whole(start: Lazy | None, parts: list[tuple[Lazy, float]]) -> Tensor:
    """`b + sum w_i (x_i - b)`; `sum w_i x_i` where the weights sum to 1 and b is not needed. One rounding."""
    import torch

    first = None if start is None else start.read().to(torch.float64)
    total = torch.zeros(parts[0][0].shape, dtype=torch.float64) if first is None else first.clone()
    for lazy, weight in parts:
        value = lazy.read().to(torch.float64)
        total.add_(value if first is None else value - first, alpha=weight)
    return total.to(torch.float32)


def _rows(name: str, parts: list[Part], base: Checkpoint | None) -> Rows:
    tables = []
    for adapter, change, weight in parts:
        if change.rows is None:
            raise InputError(
                f"{adapter.name} changes all of {name}, another adapter only trained tokens of it; write a full model"
            )
        tables.append((change.rows, weight))
    indices = tuple(sorted({index for rows, _ in tables for index in rows.indices}))
    width = tables[0][0].values.shape[1]
    alike = all(rows.indices == tables[0][0].indices for rows, _ in tables)
    start = None
    if not alike or abs(1 - sum(weight for _, weight in tables)) > _ONE:
        start = _start(name, None, base)
        if max(indices) >= start.shape[0] or start.shape[1] != width:
            raise InputError(f"trained tokens {max(indices)} of {name} lie outside the base's {list(start.shape)}")
    return Rows(indices, Lazy((len(indices), width), "float32", partial(_sum_rows, start, indices, tables)))


def _sum_rows(start: Lazy | None, indices: tuple[int, ...], tables: list[tuple[Rows, float]]) -> Tensor:
    import torch

    places = {index: place for place, index in enumerate(indices)}
    width = tables[0][0].values.shape[1]
    first = torch.zeros(len(indices), width, dtype=torch.float64)
    if start is not None:
        first = start.read()[torch.tensor(indices)].to(torch.float64)
    total = first.clone()
    for rows, weight in tables:
        place = torch.tensor([places[index] for index in rows.indices])
        total.index_add_(0, place, rows.values.read().to(torch.float64) - first[place], alpha=weight)
    return total.to(torch.float32)


def _order(adapters: Sequence[Adapter]) -> Callable[[str], tuple[int, int]]:
    """Names as the first adapter that has them lists them."""
    places: dict[str, tuple[int, int]] = {}
    for number, adapter in enumerate(adapters):
        for place, name in enumerate(adapter.changes):
            places.setdefault(name, (number, place))
    return places.__getitem__
