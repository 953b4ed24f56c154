"""Edge values of the methods without trimming: those of mergekit 0.1.5 as constants, and what they refuse."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from mergers._errors import InputError
from mergers._spec import Merge
from mergers.arcee_fusion import arcee_fusion
from mergers.karcher import karcher
from mergers.linear import linear
from mergers.linear import plan as linear_plan
from mergers.model_stock import model_stock
from mergers.multislerp import multislerp
from mergers.nearswap import nearswap
from mergers.nuslerp import nuslerp
from mergers.passthrough import passthrough
from mergers.ram import ram
from mergers.ramplus_tl import ramplus_tl
from mergers.sce import sce
from mergers.slerp import slerp
from tests.mergers.whole import Whole

A, B, Z = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]), torch.zeros(3)


def same(ours: Tensor, *values: float) -> None:
    torch.testing.assert_close(ours, torch.tensor(values, dtype=torch.float32), rtol=0, atol=1e-4, equal_nan=True)


def test_linear_divided_by_zero() -> None:
    same(linear((A, B), weight=(1, -1)), -math.inf, math.nan, math.inf)
    tensor: Any = Whole((A, B))
    with pytest.raises(InputError, match="sum of weight"):
        linear_plan(tensor, weight=(1.0, -1.0), normalize=True)


def test_linear_of_one_expert_is_that_expert_bit_for_bit() -> None:
    expert = torch.tensor([-0.0, 0.1, -3e38, 1e-45])
    for ours in (linear((expert,), weight=1.0), passthrough((expert,))):
        assert torch.equal(ours.view(torch.int32), expert.view(torch.int32))


def test_slerp_with_zero_and_opposite() -> None:
    same(slerp((Z, A), t=0.5), 0.70711, 1.41421, 2.12132)
    same(slerp((A, -A), t=0.25), 0.5, 1, 1.5)


def test_slerp_ends_are_exact() -> None:
    assert torch.equal(slerp((A, B), t=0.0), A)
    assert torch.equal(slerp((A, B), t=1.0), B)


def test_nuslerp_weights_that_cancel_are_equal() -> None:
    torch.testing.assert_close(nuslerp((A, B), weight=(1, -1)), slerp((A, B), t=0.5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("flatten", [True, False])
def test_nuslerp_of_opposite_vectors_is_a_straight_line(flatten: bool) -> None:
    vector = torch.linspace(-1, 1.1, 301, dtype=torch.float64)  # long enough for its cosine not to be exactly -1
    ours = nuslerp((vector, -vector), weight=(3.0, 1.0), nuslerp_flatten=flatten)
    torch.testing.assert_close(ours, 0.5 * vector, rtol=0, atol=1e-12)


def test_multislerp() -> None:
    same(multislerp((A, A), weight=1.0), 1, 2, 3)
    same(multislerp((A, -A), weight=(0.75, 0.25), normalize_weights=False), 1, 2, 3)  # not a balance: a direction
    same(multislerp((A, -A), weight=1.0), 0, 0, 0)  # a balance of two: a straight line
    with pytest.raises(InputError, match="cancel"):
        multislerp((A, -A, Z), weight=1.0)
    with pytest.raises(InputError, match="sum of weight"):
        multislerp((A, B), weight=(1.0, -1.0))


def test_multislerp_and_karcher_of_untrained_tensors() -> None:
    # mergekit's multislerp refuses these, and with them every model with a layer that no expert trained.
    assert torch.equal(multislerp((B, B, B), B, weight=1.0), B)
    assert torch.equal(multislerp((Z, Z, Z), weight=1.0), Z)
    assert torch.equal(karcher((Z, Z)), Z)


def test_karcher() -> None:
    same(karcher((A, A)), 1, 2, 3)
    same(karcher((A, Z)), 0.5, 1, 1.5)  # a zero counts in the mean norm, and in nothing else
    same(karcher((A, A, -A)), 1, 2, 3)  # opposite to the mean: pulls nowhere
    with pytest.raises(InputError, match="cancel"):
        karcher((A, -A))
    east, north = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    same(karcher((east, north)), math.sqrt(2), math.sqrt(2))
    same(karcher((east, north), max_iter=0), math.sqrt(2), math.sqrt(2))


def test_model_stock() -> None:
    same(model_stock(Z, (A, A)), 1, 2, 3)
    same(model_stock(Z, (A, -A)), 0, 0, 0)
    same(model_stock(Z, (torch.tensor([1.0, 0, 0]), torch.tensor([-0.3, 0.9, 0]))), -0.3237, -0.4162, 0)
    same(model_stock(Z, (A, -A), filter_wise=True), 0, 0, 0)
    assert torch.equal(model_stock(B, (B, B)), B)
    with pytest.raises(InputError, match="at least 2"):
        Merge("model_stock").check(1)


def test_nearswap() -> None:
    assert torch.equal(nearswap(A, (B,), t=0.0), A)
    same(nearswap(A, (B,), t=0.5), 1.5, 2, 2.5)
    same(nearswap(A, (B,), t=5.0), 3, 2, 1)
    with pytest.raises(InputError, match="exactly 1"):
        Merge("nearswap", (("t", 0.1),)).check(2)


def test_sce_of_the_base_alone_is_the_base() -> None:
    merged = sce(A, ())
    assert torch.equal(merged, A)
    assert merged.data_ptr() != A.data_ptr()


def test_sce_selects_weighs_and_erases() -> None:
    ours = sce(Z, (torch.tensor([3.0, 1, 0]), torch.tensor([1.0, -4, 0])))
    # Mean squares 10/3 and 17/3; the second elects minus.
    same(ours, (10 * 3 + 17 * 1) / 27, -4, 0)
    same(sce(Z, (torch.tensor([3.0, 1, 0]), torch.tensor([1.0, -4, 0])), select_topk=0.5), 0, -4, 0)
    same(sce(Z, (A, B), select_topk=0.0), 0, 0, 0)
    same(sce(Z, (A, A), select_topk=0.9), 0, 0, 0)  # no variance, nothing to select
    # Equal variances: the first ones by position.
    same(sce(torch.zeros(4), (torch.ones(4), -torch.ones(4)), select_topk=0.5), 1, 1, 0, 0)


def test_passthrough() -> None:
    same(passthrough((A,), scale=2.0), 2, 4, 6)
    with pytest.raises(InputError, match="exactly 1"):
        Merge("passthrough").check(2)


def test_ram_keeps_what_one_changed_and_averages_the_rest() -> None:
    experts = (torch.tensor([4.0, 0, 1e-6]), torch.tensor([2.0, 3, 0]), torch.zeros(3))
    same(ram(Z, experts), 3, 3, 0)
    # Expert 2 shares one entry and has one alone: 1 + 0.1 * min(0.2, 1).
    same(ramplus_tl(Z, experts), 3, 3 * 1.02, 0)
    same(ramplus_tl(Z, experts, r=0.5, alpha=5.0), 3, 3 * 1.5, 0)
    assert torch.equal(ram(A, (A, A)), A)


def test_arcee_fusion_keeps_the_outstanding_entries() -> None:
    base = torch.zeros(4, 8)
    expert = base.clone()
    expert[2, 3] = 5.0
    assert torch.equal(arcee_fusion(base, (expert,)), expert)
    spread = torch.linspace(0.1, 1, 32).view(4, 8) ** 4
    merged = arcee_fusion(base, (spread,))
    assert 0 < int((merged != base).sum()) < 16
    assert torch.equal(arcee_fusion(A, (A,)), A)


EMPTY = torch.zeros(0, 4)
SCALAR = torch.tensor(2.0)


@pytest.mark.parametrize("tensor", [EMPTY, SCALAR, torch.zeros(4, 0)], ids=["0x4", "scalar", "4x0"])
def test_any_shape_passes(tensor: Tensor) -> None:
    pair, moved = (tensor, tensor + 1), (tensor + 1,)
    results = [
        linear(pair, weight=1.0),
        slerp(pair, t=0.5),
        nuslerp(pair, weight=1.0),
        nuslerp(pair, tensor, weight=1.0, nuslerp_flatten=False),
        nuslerp(pair, weight=1.0, nuslerp_flatten=False, nuslerp_row_wise=True),
        multislerp((*pair, tensor), weight=1.0),
        karcher(pair),
        model_stock(tensor, pair),
        model_stock(tensor, pair, filter_wise=True),
        nearswap(tensor, moved, t=0.1),
        sce(tensor, pair, select_topk=0.5),
        arcee_fusion(tensor, moved),
        ram(tensor, pair),
        ramplus_tl(tensor, pair),
        passthrough(moved),
    ]
    assert all(result.shape == tensor.shape and bool(torch.isfinite(result).all()) for result in results)


def test_refusals_travel_between_processes() -> None:
    with pytest.raises(InputError) as caught:
        karcher((A, -A))
    text = str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == text
    assert "\n" not in text
