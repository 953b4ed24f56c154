"""The edge values of mergekit 0.1.5, as constants: they must not move when either side does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mergers._deltas import kth_largest, trim
from mergers._draw import Draw
from mergers.dare_ties import dare_ties
from mergers.linear import linear
from mergers.slerp import slerp
from mergers.task_arithmetic import task_arithmetic
from mergers.ties import ties

A, B, Z = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]), torch.zeros(3)


def same(ours: Tensor, *values: float) -> None:
    torch.testing.assert_close(ours, torch.tensor(values, dtype=torch.float32), rtol=0, atol=1e-6, equal_nan=True)


def test_linear_divided_by_zero() -> None:
    same(linear((A, B), weight=(1, -1)), -math.inf, math.nan, math.inf)


def test_task_arithmetic_is_not_divided_by_zero() -> None:
    same(task_arithmetic(Z, (A, B), weight=(1, -1), normalize=True), -2, 0, 2)


def test_ties_negative_weights_cancel_in_the_normalisation() -> None:
    same(ties(Z, (A, B), weight=(-1, -1)), 2, 2, 2)


def test_ties_of_the_base_is_the_base() -> None:
    same(ties(A, (A, A), weight=(0.5, 0.5)), 1, 2, 3)


def test_ties_zero_sum_elects_plus() -> None:
    same(ties(Z, (A, -A), weight=(1, 1)), 1, 2, 3)


def test_ties_zero_entries_are_not_in_the_mean() -> None:
    same(ties(Z, (torch.tensor([2.0, 0, 0]), torch.tensor([4.0, 4, 0])), weight=(1, 1)), 3, 4, 0)


def test_density_zero_gives_the_base() -> None:
    same(ties(B, (A,), weight=1.0, density=0.0), 3, 2, 1)
    same(dare_ties(B, (A,), weight=1.0, density=0.0, draw=Draw(1)), 3, 2, 1)


def test_tiny_density_keeps_one_entry() -> None:
    same(ties(Z, (A,), weight=1.0, density=1e-9), 0, 0, 3)


def test_slerp_with_zero_and_opposite() -> None:
    same(slerp((Z, A), t=0.5), *(value * math.sin(math.pi / 4) for value in (1, 2, 3)))
    same(slerp((A, -A), t=0.25), 0.5, 1, 1.5)


def test_slerp_ends_are_exact() -> None:
    assert torch.equal(slerp((A, B), t=0.0), A)
    assert torch.equal(slerp((A, B), t=1.0), B)


def test_linear_of_one_expert_is_that_expert_bit_for_bit() -> None:
    expert = torch.tensor([-0.0, 0.1, -3e38, 1e-45])
    ours = linear((expert,), weight=1.0)
    assert torch.equal(ours.view(torch.int32), expert.view(torch.int32))


def test_density_one_draws_nothing() -> None:
    class Never(Draw):
        def uniform(self, *args: object, **keywords: object) -> Tensor:
            raise AssertionError("no random number is needed")

    same(dare_ties(Z, (A,), weight=0.5, density=1.0, draw=Never(0)), 0.5, 1, 1.5)


def test_ties_at_the_threshold_keep_the_first() -> None:
    delta = torch.tensor([1.0, -2.0, 2.0, 2.0, -2.0, 3.0])
    same(trim(delta.clone(), 0.5, rescale=False), 0, -2, 2, 0, 0, 3)
    same(trim(torch.zeros(4), 0.5, rescale=True), 0, 0, 0, 0)


def test_rescale_restores_the_l1_norm() -> None:
    delta = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    trimmed = trim(delta.clone(), 0.2, rescale=True)
    assert int((trimmed != 0).sum()) == 200
    torch.testing.assert_close(trimmed.abs().sum(), delta.abs().sum())


def test_kth_largest_is_what_sorting_gives() -> None:
    values = torch.randn(997, generator=torch.Generator().manual_seed(0)).abs()
    order = values.sort(descending=True).values
    for k in (1, 2, 500, 996, 997):
        assert kth_largest(values, k) == float(order[k - 1]) == float(torch.kthvalue(values, 998 - k).values)


def test_empty_tensors_pass() -> None:
    empty = torch.zeros(0, 4)
    assert ties(empty, (empty,), weight=1.0, density=0.5).shape == (0, 4)
    assert dare_ties(empty, (empty,), weight=1.0, density=0.5, draw=Draw(0)).shape == (0, 4)
    assert slerp((empty, empty), t=0.5).shape == (0, 4)
    assert linear((empty,), weight=1.0).shape == (0, 4)
