"""Merges in the span of the inputs, against mergekit 0.1.5, slow float64 definitions, and their own plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers import karcher as karcher_file
from mergers import linear as linear_file
from mergers import model_stock as model_stock_file
from mergers import multislerp as multislerp_file
from mergers import nuslerp as nuslerp_file
from mergers import passthrough as passthrough_file
from mergers import slerp as slerp_file
from mergers.karcher import karcher
from mergers.linear import linear
from mergers.model_stock import model_stock
from mergers.multislerp import multislerp
from mergers.nuslerp import nuslerp
from mergers.passthrough import passthrough
from mergers.slerp import slerp
from tests.mergers.compare import close, matrices, mergekit, planned, rounded_alike, theirs, vectors
from tests.mergers.strategies import Case, cases
from tests.mergers.whole import Whole
from tests.oracles import geometric as slow

EXAMPLES = settings(max_examples=100, deadline=None)
SWITCH = st.booleans()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Along the last dimension, zero vectors at right angles to everything."""
    u, v = (z / z.norm(dim=-1, keepdim=True).clamp(min=1e-12) for z in (x.double(), y.double()))
    return torch.sum(u * v, -1, keepdim=True)


@EXAMPLES
@given(case=cases(), normalize=SWITCH)
def test_linear(case: Case, normalize: bool) -> None:
    # Towards a sum of zero the definition itself goes to infinity.
    assume(not normalize or abs(sum(case.weight)) > 0.05)
    ours = linear(case.experts, weight=case.weight, normalize=normalize)
    close(ours, theirs(case.experts, "linear", {"weight": list(case.weight), "normalize": normalize}), case.tolerance)
    close(ours, slow.linear(vectors(*case.experts), case.weight, normalize=normalize), case.tolerance)
    close(ours, planned(linear_file.plan, case.experts, weight=case.weight, normalize=normalize), case.tolerance)


@EXAMPLES
@given(case=cases(least=2, most=2), t=st.floats(0, 1), scale=st.sampled_from((1.0, 1e-3, 0.0, -1.0)))
def test_slerp(case: Case, t: float, scale: float) -> None:
    first, other = case.experts
    second = first + scale * other if scale != -1.0 else -first  # far, near, the same, opposite
    # The definition jumps at 0.9995.
    assume(abs(abs(float(cosine(first.flatten(), second.flatten()))) - 0.9995) > 1e-6)
    ours = slerp((first, second), t=t)
    close(ours, theirs((second,), "slerp", {"t": t}, base=first), case.tolerance)
    x, y = vectors(first, second)
    close(ours, slow.slerp(x, y, t), case.tolerance)
    close(ours, planned(slerp_file.plan, (first, second), t=t), case.tolerance)


@EXAMPLES
@given(case=cases(least=2, most=2), based=SWITCH, scale=st.sampled_from((1.0, 1e-3, 0.0)), shape=st.integers(0, 2))
def test_nuslerp(case: Case, based: bool, scale: float, shape: int) -> None:
    total = sum(case.weight)
    assume(abs(total) > 0.05 or total == 0)
    first = case.experts[0]
    experts = (first, first + scale * case.experts[1])
    base = case.base if based else None
    flatten, row_wise = ((True, False), (False, False), (False, True))[shape]
    options = {"nuslerp_flatten": flatten, "nuslerp_row_wise": row_wise}
    deltas = [x - base if base is not None else x for x in experts]
    turned = [d.flatten() if flatten else d.transpose(0, -1) if row_wise else d for d in deltas]
    # Towards opposite vectors the shares grow without bound, and with them all rounding.
    assume(bool((cosine(*turned) > -0.9).all()))

    ours = nuslerp(experts, base, weight=case.weight, **options)
    # Beyond the two experts the shares turn with the cube of t: sin(t a) / sin(a) is t (1 - (t^2 - 1) a^2 / 6), and
    # a^2 is as exact as the cosine, 1/30 of the tolerance.
    far = max(abs(w / total) if total else 0.5 for w in case.weight)
    tolerance = case.tolerance * max(1.0, far, far**3 / 30)
    close(ours, theirs(experts, "nuslerp", {"weight": list(case.weight), **options}, base), tolerance)
    slowly = [d.reshape(1, -1).double().numpy() if flatten else d.double().numpy() for d in deltas]
    if not flatten:
        sides = turned if row_wise else deltas
        slowly = matrices(*(side.contiguous() for side in sides))
    merged = torch.from_numpy(slow.nuslerp(slowly, case.weight)).reshape(
        deltas[0].transpose(0, -1).shape if row_wise else deltas[0].shape
    )
    merged = merged.transpose(0, -1) if row_wise else merged
    close(ours, merged if base is None else merged + base, tolerance)
    if row_wise and not flatten and first.dim() > 2:
        tensor: Any = Whole(experts, base)
        assert nuslerp_file.plan(tensor, weight=case.weight, **options) is None
    else:
        close(ours, planned(nuslerp_file.plan, experts, base, weight=case.weight, **options), tolerance)


@EXAMPLES
@given(case=cases(), based=SWITCH, normalize=SWITCH, eps=st.sampled_from((1e-8, 1e-3)))
def test_multislerp(case: Case, based: bool, normalize: bool, eps: float) -> None:
    total = sum(case.weight)
    assume(not normalize or abs(total) > 0.05)
    base = case.base if based else None
    deltas = [x - base if base is not None else x for x in case.experts]
    shares = [w / total if normalize else w for w in case.weight]
    norms = [float(d.double().norm()) for d in deltas]
    mean = sum(w * d.double() / (n + eps) for w, d, n in zip(shares, deltas, norms, strict=True))
    size = float(torch.as_tensor(mean).norm())
    # The shorter the mean, the less its direction is defined.
    assume(size > 0.05 * sum(map(abs, shares)))
    ours = multislerp(case.experts, base, weight=case.weight, normalize_weights=normalize, eps=eps)
    parameters: dict[str, Any] = {"weight": list(case.weight), "normalize_weights": normalize, "eps": eps}
    # A mean of length 1/20 has 20 times the rounding; dividing by a sum of 1/20 the same.
    tolerance = case.tolerance * max(1.0, sum(map(abs, shares))) / min(1.0, size)
    close(ours, theirs(case.experts, "multislerp", parameters, base), tolerance)
    origin = None if base is None else vectors(base)[0]
    close(ours, slow.multislerp(vectors(*case.experts), case.weight, origin, normalize=normalize, eps=eps), tolerance)
    close(
        ours,
        planned(multislerp_file.plan, case.experts, base, weight=case.weight, normalize_weights=normalize, eps=eps),
        tolerance,
    )


@EXAMPLES
@given(case=cases(), max_iter=st.integers(0, 12), near=SWITCH)
def test_karcher(case: Case, max_iter: int, near: bool) -> None:
    experts = [case.base + 0.5 * x for x in case.experts] if near else list(case.experts)
    merged, steps, smallest = slow.karcher(vectors(*experts), max_iter=max_iter)
    # Left out: a step that ends the iteration or not by rounding, a start or an expert so far from the mean that the
    # way there is not defined.
    margin = 1e-10 if case.base.dtype == torch.float64 else 1e-6
    assume(all(abs(step - 1e-5) > margin for step in steps))
    assume(not steps or (steps[0] > 0.05 and smallest > -0.9))
    ours = karcher(experts, max_iter=max_iter)
    tolerance = case.tolerance / (min(1.0, steps[0]) if steps else 1.0)
    close(ours, merged, tolerance)
    close(ours, theirs(experts, "karcher", {"max_iter": max_iter}), 2 * tolerance)
    close(ours, planned(karcher_file.plan, experts, max_iter=max_iter, tol=1e-5), tolerance)


@EXAMPLES
@given(case=cases(least=2), filter_wise=SWITCH)
def test_model_stock(case: Case, filter_wise: bool) -> None:
    rows = matrices(case.base, *case.experts) if filter_wise else [x[None] for x in vectors(case.base, *case.experts)]
    conditions = [_condition([x[i] - rows[0][i] for x in rows[1:]]) for i in range(len(rows[0]))]
    # Near the singular denominator t goes to infinity.
    assume(min(conditions, default=1.0) > 0.02)
    ours = model_stock(case.base, case.experts, filter_wise=filter_wise)
    tolerance = case.tolerance / min([1.0, *conditions]) ** 2
    close(ours, theirs(case.experts, "model_stock", {"filter_wise": filter_wise}, case.base), tolerance)
    close(ours, slow.model_stock(rows[1:], rows[0]), tolerance)
    close(ours, planned(model_stock_file.plan, case.experts, case.base, filter_wise=filter_wise), tolerance)


def _condition(deltas: list[np.ndarray[Any, np.dtype[np.float64]]]) -> float:
    """|1 + (k - 1) c|, written as c of unit vectors; an exact 0 is defined, and far from rounding."""
    units = [d / max(float(np.linalg.norm(d)), 1e-12) for d in deltas]
    count = len(units)
    total = sum(float(u @ v) for i, u in enumerate(units) for v in units[i + 1 :])
    return abs(1 + (count - 1) * total / (count * (count - 1) / 2))


@EXAMPLES
@given(case=cases(most=1), scale=st.sampled_from((1.0, 2.0, -0.3, 0.0)))
def test_passthrough(case: Case, scale: float) -> None:
    ours = passthrough(case.experts, scale=scale)
    assert torch.equal(ours, theirs(case.experts, "passthrough", {"scale": scale}))
    assert torch.equal(ours, planned(passthrough_file.plan, case.experts, scale=scale))
    assert torch.equal(passthrough(case.experts), theirs(case.experts, "passthrough", {}))


BFLOAT16: dict[str, tuple[Any, dict[str, Any], int, bool]] = {
    "linear": (linear, {"weight": (0.3, 0.45)}, 2, False),
    "slerp": (slerp, {"t": 0.3}, 2, False),
    "nuslerp": (nuslerp, {"weight": (0.3, 0.45)}, 2, False),
    "multislerp": (multislerp, {"weight": (0.3, 0.45, 0.2)}, 3, False),
    "karcher": (karcher, {}, 3, False),
    "model_stock": (model_stock, {}, 3, True),
    "passthrough": (passthrough, {"scale": 0.7}, 1, False),
}


@pytest.mark.parametrize("method", BFLOAT16)
def test_bfloat16_is_rounded_once(method: str) -> None:
    function, parameters, count, based = BFLOAT16[method]
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(300, 20, generator=generator).bfloat16()
    tensors = [(base + 0.3 * torch.randn(300, 20, generator=generator)).bfloat16() for _ in range(count)]
    wide = [tensor.float() for tensor in tensors]
    ours = function(*((base.float(),) if based else ()), wide, **parameters)
    index = 0 if based or method == "slerp" else None
    other = mergekit.merge_tensors(
        [base, *tensors] if based else tensors,
        method,
        parameters={key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()},
        base_index=index,
        dtype=torch.float32,
        out_dtype=torch.bfloat16,
    )
    exact = function(*((base.double(),) if based else ()), [x.double() for x in wide], **parameters)
    rounded_alike(ours, other, exact)
