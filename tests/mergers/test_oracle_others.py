"""Merges decided entry by entry, against mergekit 0.1.5, slow float64 definitions, and their own plans."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers import arcee_fusion as arcee_file
from mergers import nearswap as nearswap_file
from mergers import ram as ram_file
from mergers import ramplus_tl as ramplus_file
from mergers import sce as sce_file
from mergers._execution.statistics import Inputs, Memory, Statistics
from mergers._maths.select import end, kept
from mergers._plan import Rank
from mergers.arcee_fusion import arcee_fusion
from mergers.nearswap import nearswap
from mergers.ram import ram
from mergers.ramplus_tl import ramplus_tl
from mergers.sce import sce
from tests.mergers.compare import close, matrices, mergekit, numbers, planned, rounded_alike, theirs
from tests.mergers.strategies import Case, cases
from tests.oracles import entries as slow

EXAMPLES = settings(max_examples=100, deadline=None)
EPSILONS = st.sampled_from((1e-5, 0.0, 0.1, 0.6))
SHARES = st.sampled_from((0.0, 0.01, 0.1, 0.35, 0.5, 0.77, 0.999, 1.0))


@EXAMPLES
@given(case=cases(most=1), t=st.sampled_from((0.0, 1e-7, 0.01, 0.3, 2.0)))
def test_nearswap(case: Case, t: float) -> None:
    ours = nearswap(case.base, case.experts, t=t)
    close(ours, theirs(case.experts, "nearswap", {"t": t}, case.base), case.tolerance)
    base, expert = numbers(case.base, *case.experts)
    close(ours, slow.nearswap(base, expert, t), case.tolerance)
    assert torch.equal(ours, planned(nearswap_file.plan, case.experts, case.base, t=t))
    assert float((ours - case.base).abs().max()) <= t + case.tolerance * 10


def apart(case: Case, epsilon: float) -> bool:
    """Whether no difference lies so near the threshold that its rounding decides."""
    return all(bool(((x - case.base).abs() - epsilon).abs().gt(1e-6).all()) for x in case.experts) or epsilon == 0


@EXAMPLES
@given(case=cases(), epsilon=EPSILONS, sparse=st.booleans())
def test_ram(case: Case, epsilon: float, sparse: bool) -> None:
    case = thinned(case) if sparse else case
    assume(apart(case, epsilon))
    ours = ram(case.base, case.experts, epsilon=epsilon)
    base, *experts = numbers(case.base, *case.experts)
    close(ours, theirs(case.experts, "ram", {"epsilon": epsilon}, case.base), case.tolerance)
    close(ours, slow.ram(base, experts, epsilon=epsilon), case.tolerance)
    assert torch.equal(ours, planned(ram_file.plan, case.experts, case.base, epsilon=epsilon))


@EXAMPLES
@given(
    case=cases(),
    epsilon=EPSILONS,
    r=st.sampled_from((0.1, 0.5, -1.0)),
    alpha=st.sampled_from((0.2, 0.0, 3.0)),
    sparse=st.booleans(),
)
def test_ramplus_tl(case: Case, epsilon: float, r: float, alpha: float, sparse: bool) -> None:
    case = thinned(case) if sparse else case
    assume(apart(case, epsilon))
    ours = ramplus_tl(case.base, case.experts, epsilon=epsilon, r=r, alpha=alpha)
    base, *experts = numbers(case.base, *case.experts)
    close(ours, slow.ramplus_tl(base, experts, epsilon=epsilon, r=r, alpha=alpha), case.tolerance)
    parameters = {"epsilon": epsilon, "r": r, "alpha": alpha}
    assert torch.equal(ours, planned(ramplus_file.plan, case.experts, case.base, **parameters))
    # mergekit divides counts in float32, whatever the type of the tensors; 0 / 0, which epsilon 0 allows, is NaN there.
    other = theirs(case.experts, "ramplus_tl", parameters, case.base)
    close(ours[~other.isnan()], other[~other.isnan()], 2e-6)
    assert epsilon == 0 or not other.isnan().any()


def thinned(case: Case) -> Case:
    """Every expert changes about half of the entries."""
    generator = torch.Generator().manual_seed(case.base.numel())
    experts = [torch.where(torch.rand(case.base.shape, generator=generator) < 0.5, x, case.base) for x in case.experts]
    return Case(case.base, tuple(experts), case.weight, case.density)


@EXAMPLES
@given(case=cases(), share=SHARES, small=st.booleans())
def test_sce(case: Case, share: float, small: bool) -> None:
    if small:  # below the bound from which mergekit weighs all experts alike
        case = Case(case.base, tuple(case.base + 1e-4 * x for x in case.experts), case.weight, case.density)
    variance = sce_file._variance(case.base, case.experts, 0)
    moved = int(variance.count_nonzero())
    assume(int(torch.tensor(moved) * share) == int(moved * share))  # mergekit multiplies in float32
    ours = sce(case.base, case.experts, select_topk=share)
    chosen = sce_file._selected(case.base, case.experts, 0, selection(variance, share))
    squares = sum(float(delta.double().square().mean()) for delta in chosen)
    assume(abs(squares - 1e-6) > 1e-7)  # the definition jumps there
    close(ours, planned(sce_file.plan, case.experts, case.base, select_topk=share), case.tolerance)
    # Left out: entries whose sign only rounding elects, and selections among equal variances, which change the weights.
    clear = elected(torch.stack(chosen))
    if unambiguous(variance, share):
        base, *experts = numbers(case.base, *case.experts)
        close(ours[clear], theirs(case.experts, "sce", {"select_topk": share}, case.base)[clear], case.tolerance)
        slowly = torch.tensor(slow.sce(base, experts, select_topk=share), dtype=torch.float64).reshape(ours.shape)
        close(ours[clear], slowly[clear], case.tolerance)


def selection(variance: Tensor, share: float) -> Rank | None:
    return None if share >= 1 else end(variance, int(int(variance.count_nonzero()) * share))


def unambiguous(variance: Tensor, share: float) -> bool:
    """Whether the last variance selected differs clearly from the first one left out."""
    count = int(int(variance.count_nonzero()) * share)
    if share >= 1 or not 0 < count < variance.numel():
        return True
    ordered = variance.flatten().double().sort(descending=True).values
    margin = 1e-12 if variance.dtype == torch.float64 else 1e-5
    return float(ordered[count - 1] - ordered[count]) > margin * float(ordered[0])


def elected(deltas: Tensor) -> Tensor:
    """Entries whose sum is exactly zero in every part, or clearly not zero."""
    size = deltas.abs().sum(dim=0)
    margin = 1e-9 if deltas.dtype == torch.float64 else 1e-5
    return (size == 0) | (deltas.sum(dim=0).abs() > margin * size)


@EXAMPLES
@given(case=cases(most=1), scale=st.sampled_from((1.0, 0.1, 0.0)), partly=st.booleans())
def test_arcee_fusion(case: Case, scale: float, partly: bool) -> None:
    expert = case.base + scale * (case.experts[0] - case.base)
    if partly:
        expert[..., : expert.shape[-1] // 2] = case.base[..., : expert.shape[-1] // 2]
    ours = arcee_fusion(case.base, (expert,))
    assert torch.equal(ours, planned(arcee_file.plan, (expert,), case.base))
    found = slow.importance(*matrices(case.base, expert))
    threshold = slow.arcee_threshold(found)
    margin = (1e-9 if case.base.dtype == torch.float64 else 1e-3) * max(float(np.abs(found).max()), 1e-12)
    # Left out: entries so near the threshold that rounding decides; all of them where it is (about) zero.
    clear = torch.from_numpy(np.abs(found - threshold) > margin).reshape(ours.shape)
    slowly = torch.where(torch.from_numpy(found >= threshold).reshape(ours.shape), expert, case.base)
    assert torch.equal(ours[clear], slowly[clear])
    if case.base.dtype == torch.float64:
        close(ours[clear], theirs((expert,), "arcee_fusion", {}, case.base)[clear], case.tolerance)


def test_arcee_fusion_is_what_mergekit_estimates_from_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(1200, 900, generator=generator, dtype=torch.float64)
    expert = base + 0.1 * torch.randn(1200, 900, generator=generator, dtype=torch.float64)
    ours = arcee_fusion(base, (expert,))
    with patch("mergekit.merge_methods.arcee_fusion._QUANTILE_SAMPLE_SIZE", base.numel()):  # no sampling
        exact = theirs((expert,), "arcee_fusion", {}, base)
    close(ours, exact, 1e-12)
    torch.manual_seed(0)
    sampled = theirs((expert,), "arcee_fusion", {}, base)
    differing = float((sampled != exact).double().mean())
    assert 0 < differing < 0.002  # quantiles of a million draws are off by about 1 / 1000 of their probability


@EXAMPLES
@given(
    size=st.integers(1, 9000),
    levels=st.integers(1, 6),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_the_first_entries_by_a_computed_quantity(size: int, levels: int, seed: int, data: st.DataObject) -> None:
    values = torch.randint(levels, (size,), generator=torch.Generator().manual_seed(seed)).float()
    count = data.draw(st.integers(0, size))
    tensor = Statistics(Inputs(torch.zeros(size), (values,), (size,)), Memory(tables=False))
    rank = tensor.first(tensor.computed(lambda base, experts, start: experts[0]), count)
    assert rank == end(values, count)
    mask = kept(values, 0, rank)
    assert int(mask.sum()) == count
    order = sorted(range(size), key=lambda e: -float(values[e]))[:count]
    assert mask.nonzero().flatten().tolist() == sorted(order)


BFLOAT16: dict[str, tuple[Any, dict[str, Any], int]] = {
    "nearswap": (nearswap, {"t": 0.1}, 1),
    "ram": (ram, {}, 3),
    "ramplus_tl": (ramplus_tl, {}, 3),
    "sce": (sce, {}, 3),
}


@pytest.mark.parametrize("method", BFLOAT16)
def test_bfloat16_is_rounded_once(method: str) -> None:
    function, parameters, count = BFLOAT16[method]
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(300, 20, generator=generator).bfloat16()
    tensors = [(base + 0.3 * torch.randn(300, 20, generator=generator)).bfloat16() for _ in range(count)]
    wide = [tensor.float() for tensor in tensors]
    ours = function(base.float(), wide, **parameters)
    other = mergekit.merge_tensors(
        [base, *tensors], method, parameters=parameters, base_index=0, dtype=torch.float32, out_dtype=torch.bfloat16
    )
    clear = elected(torch.stack([x - base.float() for x in wide]))
    exact = function(base.double(), [x.double() for x in wide], **parameters)
    rounded_alike(ours[clear], other[clear], exact[clear])
