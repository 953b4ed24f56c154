"""What the random methods promise: keep rates, norms, expectations, and DELLA's probability by rank."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mergers._maths.deltas import drop, sample
from mergers._maths.draw import Draw
from mergers.dare_linear import dare_linear
from mergers.della import della
from mergers.della_linear import della_linear

N = 1 << 18


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_drop_keeps_the_share_whatever_the_entry(density: float, index: int) -> None:
    delta = normal(N)
    kept = drop(delta.clone(), density, Draw(5, "w"), index, rescale=False, paper=False).delta != 0
    for part in (kept, kept[delta > 0], kept[delta.abs() > 1]):
        assert abs(float(part.double().mean()) - density) < 5 * math.sqrt(density * (1 - density) / part.numel())


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_rescaled_norms(density: float) -> None:
    delta = normal(64, 4096)
    draw, norm = Draw(5, "w"), delta.abs().sum()
    by_norm = [
        drop(delta.clone(), density, draw, 0, rescale=True, paper=False),
        sample(delta.clone(), density, 0.15, draw, 0, rescale=True, paper=False),
    ]
    for kept, scale in by_norm:
        torch.testing.assert_close(kept.abs().sum() * scale, norm, rtol=1e-5, atol=0)
        whole = kept != 0
        torch.testing.assert_close(kept[whole], delta[whole], rtol=0, atol=0)  # one factor for all that is kept
    kept, scale = drop(delta.clone(), density, draw, 0, rescale=True, paper=True)
    assert scale == 1 / density
    assert abs(float(kept.abs().sum()) * scale / float(norm) - 1) < 5 * 1.3 / math.sqrt(N * density)


@pytest.mark.parametrize("method", ["dare_linear", "della_linear", "della_linear, norm"])
def test_mean_over_seeds_approaches_the_difference(method: str) -> None:
    """Exactly unbiased in the papers' convention; matching the norm is not where the probability rises with rank."""
    delta = torch.linspace(-1, 1, 48).view(3, 16)
    seeds, total = 3000, torch.zeros(3, 16)
    for seed in range(seeds):
        draw = Draw(seed, "w")
        if method == "dare_linear":
            total += dare_linear(torch.zeros(3, 16), [delta], weight=1.0, density=0.4, convention="paper", draw=draw)
        else:
            convention = "paper" if method == "della_linear" else "mergekit"
            merge = della_linear(
                torch.zeros(3, 16), [delta], weight=1.0, density=0.4, epsilon=0.3, convention=convention, draw=draw
            )
            total += merge
    error = (total / seeds - delta) / (delta.abs() * math.sqrt(0.9 / 0.1 / seeds))
    if method == "della_linear, norm":
        largest, smallest = delta.abs().argmax(dim=1), delta.abs().argmin(dim=1)
        row = torch.arange(3)
        assert (total[row, largest].abs() / seeds > 1.2 * delta[row, largest].abs()).all()
        assert (total[row, smallest].abs() / seeds < 0.7 * delta[row, smallest].abs()).all()
    else:
        assert float(error.abs().max()) < 5


def test_the_chance_to_be_kept_rises_with_the_rank_in_the_row() -> None:
    rows, columns, low, high = 1 << 14, 9, 0.3, 0.7
    delta = normal(rows, columns) * torch.logspace(-3, 3, rows)[:, None]  # sizes of rows must not matter
    kept = sample(delta.clone(), 0.5, 0.2, Draw(1, "w"), 0, rescale=False, paper=False).delta != 0
    order = delta.abs().argsort(dim=1)
    rates = kept.gather(1, order).double().mean(dim=0)
    expected = torch.linspace(low, high, columns, dtype=torch.float64)
    assert float(((rates - expected) / (expected * (1 - expected) / rows).sqrt()).abs().max()) < 5


def test_rows_of_one_entry_use_the_density() -> None:
    delta = normal(N, 1)
    kept = sample(delta.clone(), 0.6, 0.3, Draw(1, "w"), 0, rescale=False, paper=False).delta != 0
    assert abs(float(kept.double().mean()) - 0.6) < 5 * math.sqrt(0.24 / N)
    merged = della(torch.zeros(5, 1), [delta[:5]], weight=1.0, density=0.5, draw=Draw(0, "w"))
    assert torch.isfinite(merged).all()
    assert della(torch.zeros(()), [torch.ones(())], weight=1.0, density=0.5, draw=Draw(0, "w")).shape == ()


def test_blocks_of_rows_are_ranked_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    delta, draw = normal(100, 7), Draw(1, "w")
    whole = sample(delta.clone(), 0.5, 0.2, draw, 1, rescale=True, paper=True).delta
    monkeypatch.setattr("mergers._maths.deltas._BLOCK", 30)
    assert torch.equal(sample(delta.clone(), 0.5, 0.2, draw, 1, rescale=True, paper=True).delta, whole)


def test_experts_of_a_pair_lose_different_entries() -> None:
    kept = [drop(torch.ones(N), 0.5, Draw(2, "w"), index, rescale=False, paper=False).delta for index in range(4)]
    for i in range(4):
        for j in range(i):
            together = float((kept[i] * kept[j]).double().mean())
            assert abs(together - 0.25) < 5 * math.sqrt(0.25 * 0.75 / N)
