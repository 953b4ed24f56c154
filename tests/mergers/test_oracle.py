"""Every method against mergekit 0.1.5, and against the slow float64 versions of tests/oracles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers._deltas import drop, trim
from mergers._draw import Draw
from mergers.dare_ties import dare_ties
from mergers.linear import linear
from mergers.slerp import slerp
from mergers.task_arithmetic import task_arithmetic
from mergers.ties import ties
from tests.mergers.strategies import Case, cases
from tests.oracles import merging as slow

mergekit = pytest.importorskip("mergekit.merge_methods")
EXAMPLES = settings(max_examples=150, deadline=None)
SWITCH = st.booleans()
LAMBDAS = st.sampled_from((1.0, 0.5, -0.3, 0.0))


def reference(case: Case, method: str, parameters: dict[str, Any], *, base: bool = True) -> Tensor:
    tensors = ([case.base] if base else []) + list(case.experts)
    merged: Tensor = mergekit.merge_tensors(tensors, method, parameters=parameters, base_index=0 if base else None)
    return merged


def close(ours: Tensor, theirs: Tensor, case: Case) -> None:
    scale = max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=case.tolerance * scale)


def slow_close(ours: Tensor, theirs: Sequence[float], case: Case, clear: Tensor | None = None) -> None:
    """Compare where `clear` (everywhere by default)."""
    slowly = torch.tensor(theirs, dtype=torch.float64).reshape(ours.shape)
    where = torch.ones_like(ours, dtype=torch.bool) if clear is None else clear
    scale = max(1.0, float(slowly.abs().max()))
    torch.testing.assert_close(ours.double()[where], slowly[where], rtol=0, atol=case.tolerance * scale)


def flat(*tensors: Tensor) -> list[list[float]]:
    return [tensor.double().flatten().tolist() for tensor in tensors]


@EXAMPLES
@given(case=cases(), normalize=SWITCH)
def test_linear(case: Case, normalize: bool) -> None:
    assume(not normalize or abs(sum(case.weight)) > 0.05)
    ours = linear(case.experts, weight=case.weight, normalize=normalize)
    close(ours, reference(case, "linear", {"weight": list(case.weight), "normalize": normalize}, base=False), case)
    slow_close(ours, slow.linear(flat(*case.experts), case.weight, normalize=normalize), case)


@EXAMPLES
@given(case=cases(least=2, most=2), t=st.floats(0, 1), scale=st.sampled_from((1.0, 1e-3, 0.0, -1.0)))
def test_slerp(case: Case, t: float, scale: float) -> None:
    first, other = case.experts
    second = first + scale * other if scale != -1.0 else -first  # far, near, the same, opposite
    pair = Case(first, (second,), (), ())
    x, y = first.double().flatten(), second.double().flatten()
    assume(abs(abs(float(x @ y / x.norm().clamp(min=1e-8) / y.norm().clamp(min=1e-8))) - 0.9995) > 1e-6)
    ours = slerp((first, second), t=t)
    close(ours, reference(pair, "slerp", {"t": t}), case)
    slow_close(ours, slow.slerp(flat(first, second), t), case)


@EXAMPLES
@given(case=cases(), normalize=SWITCH, scale=LAMBDAS)
def test_task_arithmetic(case: Case, normalize: bool, scale: float) -> None:
    assume(not normalize or abs(sum(case.weight)) > 0.05)
    ours = task_arithmetic(case.base, case.experts, weight=case.weight, normalize=normalize, lambda_=scale)
    parameters = {"weight": list(case.weight), "normalize": normalize, "lambda": scale}
    close(ours, reference(case, "task_arithmetic", parameters), case)
    base, *experts = flat(case.base, *case.experts)
    slow_close(ours, slow.task_arithmetic(base, experts, case.weight, normalize=normalize, lambda_=scale), case)


@EXAMPLES
@given(case=cases(), normalize=SWITCH, rescale=SWITCH, scale=LAMBDAS)
def test_ties(case: Case, normalize: bool, rescale: bool, scale: float) -> None:
    ours = ties(
        case.base,
        case.experts,
        weight=case.weight,
        density=case.density,
        normalize=normalize,
        rescale=rescale,
        lambda_=scale,
    )
    parameters = {
        "weight": list(case.weight),
        "density": list(case.density),
        "normalize": normalize,
        "rescale": rescale,
        "lambda": scale,
    }
    assume(_decided(case))
    defined = ~_ambiguous(case.base, case.experts, case.density) & _elected(case, _trimmed(case, rescale))
    theirs = reference(case, "ties", parameters)
    assume(defined.any())
    close(ours[defined], theirs[defined], case)


@EXAMPLES
@given(case=cases(dtypes=st.just(torch.float64)), normalize=SWITCH, rescale=SWITCH, scale=LAMBDAS)
def test_ties_slow(case: Case, normalize: bool, rescale: bool, scale: float) -> None:
    assume(_decided(case))
    ours = ties(
        case.base,
        case.experts,
        weight=case.weight,
        density=case.density,
        normalize=normalize,
        rescale=rescale,
        lambda_=scale,
    )
    base, *experts = flat(case.base, *case.experts)
    theirs = slow.ties(base, experts, case.weight, case.density, normalize=normalize, rescale=rescale, lambda_=scale)
    slow_close(ours, theirs, case, _elected(case, _trimmed(case, rescale)))


def _ambiguous(base: Tensor, experts: Sequence[Tensor], density: Sequence[float]) -> Tensor:
    """Entries whose magnitude ties where the trim cuts: mergekit's unstable sort keeps any of them, we the first."""
    found = torch.zeros_like(base, dtype=torch.bool)
    for expert, share in zip(experts, density, strict=True):
        magnitude = (expert - base).abs().float()
        keep = max(1, int(share * magnitude.numel()))
        if 0 < share < 1:
            threshold = magnitude.flatten().sort(descending=True).values[keep - 1]
            if int((magnitude >= threshold).sum()) > keep:
                found |= magnitude == threshold
    return found


def _elected(case: Case, thinned: Sequence[Tensor]) -> Tensor:
    """Entries whose weighted sum is clearly not zero: elsewhere rounding, not the definition, elects the sign."""
    parts = torch.stack([weight * delta for weight, delta in zip(case.weight, thinned, strict=True)])
    size = parts.abs().sum(dim=0)
    margin = 1e-9 if case.base.dtype == torch.float64 else 1e-5
    return (size == 0) | (parts.sum(dim=0).abs() > margin * size)


def _trimmed(case: Case, rescale: bool) -> list[Tensor]:
    return [trim(x - case.base, q, rescale=rescale) for x, q in zip(case.experts, case.density, strict=True)]


def _dropped(case: Case, rescale: bool, draw: Draw) -> list[Tensor]:
    pairs = enumerate(zip(case.experts, case.density, strict=True))
    return [drop(x - case.base, q, draw, index, rescale=rescale) for index, (x, q) in pairs]


def _decided(case: Case) -> bool:
    """Whether no sum in this case lies so near zero that rounding would elect the sign or be divided by."""
    weight = case.weight
    subsets = [[w for bit, w in enumerate(weight) if mask >> bit & 1] for mask in range(1, 1 << len(weight))]
    return all(sum(part) == 0 or abs(sum(part)) > 1e-6 for part in subsets)


class Replay(Draw):
    """Random numbers that give the masks mergekit draws from torch's generator; stands in for `Draw` in a test."""

    def __new__(cls, density: Sequence[float]) -> Replay:
        return super().__new__(cls)

    def __init__(self, density: Sequence[float]) -> None:
        super().__init__(0)
        object.__setattr__(self, "density", tuple(density))

    def uniform(
        self, shape: Sequence[int], index: int, device: torch.device | str = "cpu", *, start: int = 0
    ) -> Tensor:
        density: float = getattr(self, "density")[index]  # noqa: B009  # set past the frozen dataclass
        return torch.where(torch.bernoulli(torch.full(tuple(shape), density)) == 1, -1.0, 2.0)


@EXAMPLES
@given(case=cases(), normalize=SWITCH, rescale=SWITCH, scale=LAMBDAS, seed=st.integers(0, 2**31))
def test_dare_ties_under_mergekits_masks(case: Case, normalize: bool, rescale: bool, scale: float, seed: int) -> None:
    assume(_decided(case))
    parameters = {
        "weight": list(case.weight),
        "density": list(case.density),
        "normalize": normalize,
        "rescale": rescale,
        "lambda": scale,
    }
    torch.manual_seed(seed)
    theirs = reference(case, "dare_ties", parameters)
    torch.manual_seed(seed)
    ours = dare_ties(
        case.base,
        case.experts,
        weight=case.weight,
        density=case.density,
        normalize=normalize,
        rescale=rescale,
        lambda_=scale,
        draw=Replay(case.density),
    )
    torch.manual_seed(seed)
    clear = _elected(case, _dropped(case, rescale, Replay(case.density)))
    # mergekit thins float64 tensors in float32, hence the float32 tolerance for both types.
    atol = 1e-5 * max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(ours[clear], theirs[clear], rtol=0, atol=atol)


@EXAMPLES
@given(case=cases(dtypes=st.just(torch.float64)), normalize=SWITCH, rescale=SWITCH, scale=LAMBDAS, seed=st.integers())
def test_dare_ties_slow(case: Case, normalize: bool, rescale: bool, scale: float, seed: int) -> None:
    assume(_decided(case))
    ours = dare_ties(
        case.base,
        case.experts,
        weight=case.weight,
        density=case.density,
        normalize=normalize,
        rescale=rescale,
        lambda_=scale,
        draw=Draw.of(seed, "w"),
    )
    base, *experts = flat(case.base, *case.experts)
    theirs = slow.dare_ties(
        base,
        experts,
        case.weight,
        case.density,
        normalize=normalize,
        rescale=rescale,
        lambda_=scale,
        number=lambda index, element: slow.uniform(seed, "w", index, element),
    )
    slow_close(ours, theirs, case, _elected(case, _dropped(case, rescale, Draw.of(seed, "w"))))


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties"])
def test_bfloat16_is_rounded_once(method: str) -> None:
    generator = torch.Generator().manual_seed(5)
    base, *experts = (torch.randn(300, 20, generator=generator).bfloat16() for _ in range(3))
    wide = [tensor.float() for tensor in experts]
    parameters: dict[str, Any] = {"weight": [0.3, 0.45]}
    tensors: list[Tensor] = [base, *experts]
    index: int | None = 0
    if method == "linear":
        ours, tensors, index = linear(wide, weight=(0.3, 0.45)), experts, None
    elif method == "slerp":
        ours, tensors, parameters = slerp(wide, t=0.3), experts, {"t": 0.3}
    elif method == "task_arithmetic":
        ours = task_arithmetic(base.float(), wide, weight=(0.3, 0.45))
    else:
        parameters["density"] = [0.4, 0.6]
        ours = ties(base.float(), wide, weight=(0.3, 0.45), density=(0.4, 0.6))
    theirs = mergekit.merge_tensors(
        tensors, method, parameters=parameters, base_index=index, dtype=torch.float32, out_dtype=torch.bfloat16
    )
    steps = (ours.bfloat16().view(torch.int16).int() - theirs.view(torch.int16).int()).abs()
    if method == "ties":
        steps = steps[~_ambiguous(base.float(), wide, (0.4, 0.6))]
    assert int(steps.max()) <= 1
    assert float((steps > 0).float().mean()) < 1e-3
