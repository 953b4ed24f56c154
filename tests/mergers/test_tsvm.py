"""Task singular vectors merging: against numpy, step by step from the paper, and by what it promises."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers import tsvm as tsvm_file
from mergers import tsvm_weighted as weighted_file
from mergers._errors import InputError
from mergers._maths.singular import Triplets, joined, leading, orthonormal
from mergers._spec import Merge
from mergers.tsvm import tsvm
from mergers.tsvm_weighted import tsvm_weighted
from tests.mergers.compare import close
from tests.oracles import singular as slow

SHAPES = st.one_of(
    st.tuples(st.integers(4, 24), st.integers(4, 24)),
    st.tuples(st.integers(1, 30)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.just(()),
)


def models(
    shape: Sequence[int], count: int, seed: int, *, tails: bool = False, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, list[Tensor]]:
    """Generic matrices: no two singular values and no two singular vectors of different experts are the same."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator, dtype=torch.float64)
    deltas = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    if tails:
        deltas = [delta**3 for delta in deltas]
    return base.to(dtype), [(base + 0.1 * delta).to(dtype) for delta in deltas]


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, count=st.integers(1, 4), seed=st.integers(0, 2**31), alpha=st.sampled_from((1.0, 0.4, -0.5)))
def test_tsvm_is_the_papers(shape: tuple[int, ...], count: int, seed: int, alpha: float) -> None:
    base, experts = models(shape, count, seed)
    arrays = [x.numpy() for x in experts]
    close(tsvm(base, experts, lambda_=alpha), slow.tsvm(base.numpy(), arrays, alpha), 1e-9)


@settings(max_examples=80, deadline=None)
@given(
    shape=SHAPES,
    count=st.integers(2, 4),
    seed=st.integers(0, 2**31),
    tails=st.booleans(),
    sigmas=st.sampled_from((3.0, 1.0)),
    negligible=st.sampled_from((0.01, 0.5)),
    data=st.data(),
)
def test_tsvm_weighted_is_what_its_text_says(
    shape: tuple[int, ...], count: int, seed: int, tails: bool, sigmas: float, negligible: float, data: st.DataObject
) -> None:
    base, experts = models(shape, count, seed, tails=tails)
    weight = tuple(data.draw(st.sampled_from((1.0, 0.3, -0.7))) for _ in range(count))
    ours = tsvm_weighted(base, experts, weight=weight, sigmas=sigmas, negligible=negligible)
    arrays = [x.numpy() for x in experts]
    close(ours, slow.tsvm_weighted(base.numpy(), arrays, weight, sigmas=sigmas, negligible=negligible), 1e-9)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9), (5,), (2, 3, 4)])
def test_one_task_at_full_rank_comes_back(shape: tuple[int, ...]) -> None:
    base, experts = models(shape, 1, 0)
    close(tsvm(base, experts), experts[0], 1e-12)


def test_every_task_gets_an_equal_share_of_the_rank() -> None:
    base, experts = models((20, 11), 3, 0)
    merged = torch.linalg.matrix_rank(tsvm(base, experts) - base)
    assert int(merged) == 3 * (11 // 3)


def test_the_vectors_of_all_tasks_are_made_orthonormal_and_stay_nearest() -> None:
    _, experts = models((20, 12), 3, 1)
    left = torch.cat([leading(x, 4).left for x in experts], 1)
    made = orthonormal(left)
    torch.testing.assert_close(made.T @ made, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-12)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):  # the polar factor is nearest (Fan and Hoffman, 1955): no other orthonormal set is nearer
        other, _ = torch.linalg.qr(made + 0.1 * torch.randn(made.shape, generator=generator, dtype=torch.float64))
        assert float((left - made).norm()) < float((left - other).norm())


def test_tasks_that_do_not_overlap_are_added() -> None:
    base = torch.zeros(6, 6, dtype=torch.float64)
    first, second = base.clone(), base.clone()
    first[:3, :3] = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    second[3:, 3:] = torch.diag(torch.tensor([5.0, 4.0, 0.5], dtype=torch.float64))
    close(tsvm(base, (first, second)), first + second, 1e-12)


def test_signs_of_singular_vectors_have_no_effect() -> None:
    _, experts = models((8, 8), 2, 3)
    tasks = [leading(x, 4) for x in experts]
    flips = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    turned = [Triplets(task.left * flips, task.values, task.right * flips) for task in tasks]
    close(joined(turned), joined(tasks), 1e-12)


def test_equal_experts_give_the_truncated_difference() -> None:
    # Side by side their vectors depend on each other, and P Q^T would hold vectors that nobody chose.
    base, (expert,) = models((10, 8), 1, 4)
    u, s, vt = torch.linalg.svd(expert - base, full_matrices=False)
    close(tsvm(base, (expert, expert)), base + u[:, :4] * s[:4] @ vt[:4], 1e-12)


def test_vectors_of_singular_value_zero_disturb_nobody() -> None:
    base, (full, other) = models((10, 8), 2, 5)
    u, s, vt = torch.linalg.svd(other - base, full_matrices=False)
    narrow = base + u[:, :1] * s[:1] @ vt[:1]  # rank 1 of the 4 that it may have
    merged = tsvm(base, (full, narrow))
    u_full, s_full, vt_full = torch.linalg.svd(full - base, full_matrices=False)
    left = orthonormal(torch.cat((u_full[:, :4], u[:, :1]), 1))
    right = orthonormal(torch.cat((vt_full[:4].T, vt[:1].T), 1))
    close(merged, base + left * torch.cat((s_full[:4], s[:1])) @ right.T, 1e-10)


def test_a_matrix_with_fewer_rows_than_experts_stays_the_bases() -> None:
    base, experts = models((2, 9), 3, 6)
    assert torch.equal(tsvm(base, experts), base)
    base, experts = models((0, 9), 3, 6)
    assert tsvm(base, experts).shape == (0, 9)


@pytest.mark.parametrize("function", [tsvm, tsvm_weighted])
def test_untouched_tensors_and_zero_lambda_give_the_base(function: object) -> None:
    assert callable(function)
    base, experts = models((9, 7), 3, 7, dtype=torch.float32)
    assert torch.equal(function(base, [base] * 3), base)
    assert torch.equal(function(base, experts, lambda_=0.0), base)


def test_experts_order_has_no_effect() -> None:
    base, experts = models((9, 12), 3, 8)
    close(tsvm(base, experts[::-1]), tsvm(base, experts), 1e-12)
    weight = (0.2, 0.5, -0.4)
    ours = tsvm_weighted(base, experts, weight=weight)
    close(tsvm_weighted(base, experts[::-1], weight=weight[::-1]), ours, 1e-12)


def test_more_outliers_count_more_and_scale_decides_nothing_about_rank() -> None:
    base, (calm, heavy) = models((40, 40), 2, 9)
    heavy = base + (heavy - base) ** 3 * 60  # heavy tails, about the same size
    merged = tsvm_weighted(base, (calm, heavy)) - base
    likeness = [float((merged * (x - base)).sum() / merged.norm() / (x - base).norm()) for x in (calm, heavy)]
    assert likeness[1] > 2 * likeness[0]
    deltas = [x - base for x in (calm, heavy)]
    assert weighted_file._rank(deltas, 0.1) == weighted_file._rank([1e-3 * deltas[0], 7 * deltas[1]], 0.1)


def test_sparse_differences_keep_fewer_vectors() -> None:
    base, experts = models((30, 30), 2, 10)
    mask = torch.rand(30, 30, generator=torch.Generator().manual_seed(0)) < 0.4
    sparse = [torch.where(mask, x, base) for x in experts]
    ranks = [int(torch.linalg.matrix_rank(tsvm_weighted(base, x) - base)) for x in (experts, sparse)]
    kept = float(mask.double().mean())
    assert ranks[0] >= 28
    assert abs(ranks[1] - 30 * kept) <= 2


def test_one_expert_is_refused_by_the_weighted_one() -> None:
    with pytest.raises(InputError, match="at least 2"):
        Merge("tsvm_weighted").check(1)
    Merge("tsvm").check(1)


def test_neither_claims_a_plan_nor_to_be_resm() -> None:
    assert not hasattr(tsvm_file, "plan")
    assert not hasattr(weighted_file, "plan")
    assert "OUR INTERPRETATION" in (weighted_file.__doc__ or "")
