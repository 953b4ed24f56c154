"""The edge values of mergekit 0.1.5, as constants: they must not move when either side does. Task-vector methods."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mergers._maths.deltas import cut, drop, kth_largest, largest, trim
from mergers._maths.draw import Draw
from mergers._rules import band_counts, coefficients, keep_probabilities, trim_count
from mergers.breadcrumbs import breadcrumbs
from mergers.breadcrumbs_ties import breadcrumbs_ties
from mergers.dare_linear import dare_linear
from mergers.dare_ties import dare_ties
from mergers.della import della
from mergers.della_linear import della_linear
from mergers.task_arithmetic import task_arithmetic
from mergers.ties import ties

A, B, Z = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]), torch.zeros(3)
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ties": (ties, {}),
    "breadcrumbs": (breadcrumbs, {}),
    "breadcrumbs_ties": (breadcrumbs_ties, {}),
    "dare_linear": (dare_linear, {"draw": Draw(1, "w")}),
    "dare_ties": (dare_ties, {"draw": Draw(1, "w")}),
    "della": (della, {"draw": Draw(1, "w")}),
    "della_linear": (della_linear, {"draw": Draw(1, "w")}),
}
every = pytest.mark.parametrize("method", METHODS)


def same(ours: Tensor, *values: float) -> None:
    torch.testing.assert_close(ours, torch.tensor(values, dtype=torch.float32), rtol=0, atol=1e-6)


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


def test_tiny_density_keeps_one_entry() -> None:
    same(ties(Z, (A,), weight=1.0, density=1e-9), 0, 0, 3)
    same(breadcrumbs(Z, (A,), weight=1.0, density=1e-9), 0, 0, 0)  # but not in a band


@pytest.mark.parametrize("convention", ["mergekit", "paper"])
def test_conventions_of_the_election(convention: str) -> None:
    """Weighted, 3 * 1 outvotes 2 and is divided by 3; unweighted, 2 outvotes 1 and is divided by a count of 1."""
    experts = (torch.tensor([1.0]), torch.tensor([-2.0]))
    merged = ties(torch.zeros(1), experts, weight=(3.0, 0.5), convention=convention)
    same(merged, 1.0 if convention == "mergekit" else -1.0)


@every
def test_density_zero_gives_the_base(method: str) -> None:
    function, extra = METHODS[method]
    same(function(B, (A,), weight=1.0, density=0.0, **extra), 3, 2, 1)


class Never(Draw):
    """No random number is needed."""

    def bits(self, *args: object, **keywords: object) -> Tensor:
        raise AssertionError("no random number is needed")


@every
def test_density_one_changes_nothing_and_draws_nothing(method: str) -> None:
    function, extra = METHODS[method]
    never = {key: Never(0, "w") for key in extra}
    conventions = [{"convention": "mergekit"}, {"convention": "paper"}] if method != "breadcrumbs" else [{}]
    for convention in conventions:
        for density in (0.0, 1.0):
            merged = function(Z, (A,), weight=0.5, density=density, normalize=False, **never, **convention)
            same(merged, *(0.5 * density * A).tolist())


@every
def test_empty_tensors_pass(method: str) -> None:
    function, extra = METHODS[method]
    for shape in ((0, 4), (4, 0), (0,), (2, 0, 3)):
        empty = torch.zeros(shape)
        assert function(empty, (empty,), weight=1.0, density=0.5, **extra).shape == shape


@every
def test_tensors_that_are_not_contiguous(method: str) -> None:
    function, extra = METHODS[method]
    generator = torch.Generator().manual_seed(0)
    base, expert = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    whole = function(base, (expert,), weight=1.0, density=0.5, **extra)
    turned = function(base.T.contiguous().T, (expert.T.contiguous().T,), weight=1.0, density=0.5, **extra)
    assert torch.equal(whole, turned)


def test_ties_at_the_threshold_keep_the_first() -> None:
    delta = torch.tensor([1.0, -2.0, 2.0, 2.0, -2.0, 3.0])
    same(trim(delta.clone(), 0.5, rescale=False).delta, 0, -2, 2, 0, 0, 3)
    same(cut(delta.clone(), 0.5, 0.4, rescale=False).delta, 0, 0, 2, 2, -2, 0)
    assert trim(torch.zeros(4), 0.5, rescale=True).scale == 1.0
    assert largest(torch.zeros(5), 2).tolist() == [1, 1, 0, 0, 0]


def test_bands_give_up_outliers_before_density() -> None:
    """int(density * n) are kept whatever gamma is; mergekit's bottom = max(0, n - keep - top)."""
    assert band_counts(0.5, 0.1, 10) == (1, 6)
    assert band_counts(0.95, 0.1, 20) == (1, 20)
    assert band_counts(0.5, 1.0, 10) == (5, 10)
    assert band_counts(0.0, 0.1, 10) == (1, 1)
    assert band_counts(1.0, 0.5, 10) == (0, 10)
    for density in (0.0, 0.3, 0.5, 0.999, 1.0):
        for gamma in (0.0, 0.01, 0.6, 1.0):
            above, upto = band_counts(density, gamma, 37)
            assert 0 <= above <= upto <= 37
            assert upto - above == int(density * 37)


def test_counts_and_coefficients() -> None:
    assert [trim_count(q, 10) for q in (0.0, 1e-9, 0.29, 0.999, 1.0)] == [0, 1, 2, 9, 10]
    assert [trim_count(q, 0) for q in (0.0, 0.5, 1.0)] == [0, 0, 0]
    assert coefficients((1.0, 3.0), normalize=True, lambda_=2.0) == (0.5, 1.5)
    assert coefficients((1.0, -1.0), normalize=True, lambda_=2.0) == (2.0, -2.0)
    assert keep_probabilities(0.5, 0.0) == (0.5, 0.5)


def test_rescale_restores_the_l1_norm() -> None:
    delta = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    trimmed, scale = trim(delta.clone(), 0.2, rescale=True)
    assert int((trimmed != 0).sum()) == 200
    torch.testing.assert_close(trimmed.abs().sum() * scale, delta.abs().sum())


def test_norms_of_about_zero_rescale_nothing() -> None:
    tiny = torch.full((8,), 1e-9)
    assert trim(tiny.clone(), 0.5, rescale=True).scale == 1.0
    assert drop(tiny.clone(), 0.5, Draw(0, "w"), 0, rescale=True, paper=False).scale == 1.0


def test_kth_largest_is_what_sorting_gives() -> None:
    values = torch.randn(997, generator=torch.Generator().manual_seed(0)).abs()
    order = values.sort(descending=True).values
    for k in (1, 2, 500, 996, 997):
        assert kth_largest(values, k) == float(order[k - 1]) == float(torch.kthvalue(values, 998 - k).values)
