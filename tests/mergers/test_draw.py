"""Random numbers by position: equal to their definition, independent of how they are asked for, and uniform."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergers._deltas import drop
from mergers._draw import Draw
from tests.oracles import merging as slow

N = 1 << 18


def correlation(x: torch.Tensor, y: torch.Tensor) -> float:
    """Standardised: about normal(0, 1) for independent uniform numbers."""
    covariance = float(((x.double() - 0.5) * (y.double() - 0.5)).mean())
    return covariance * 12 * math.sqrt(x.numel())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(-(2**70), 2**70), index=st.integers(0, 30), start=st.integers(0, 2**40))
def test_equals_the_definition(seed: int, index: int, start: int) -> None:
    ours = Draw.of(seed, "model.w").uniform((5,), index, start=start)
    assert ours.tolist() == [slow.uniform(seed, "model.w", index, start + i) for i in range(5)]


def test_a_slice_is_the_slice_of_the_whole() -> None:
    draw = Draw.of(7, "w")
    whole = draw.uniform((3, 100_000), 2)
    assert torch.equal(whole.flatten()[65_000:140_001], draw.uniform((75_001,), 2, start=65_000))
    assert torch.equal(whole[1], draw.uniform((100_000,), 2, start=100_000))
    assert torch.equal(whole, draw.uniform((3, 100_000), 2))


def test_uniform_over_256_bins_and_within_bounds() -> None:
    numbers = Draw.of(1, "w").uniform((N,), 0)
    assert numbers.dtype == torch.float32
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    counts = torch.histc(numbers.double(), 256, 0, 1)
    chi2 = float(((counts - N / 256) ** 2 / (N / 256)).sum())
    assert abs(chi2 - 255) < 5 * math.sqrt(2 * 255)
    low_bits = (numbers.double() * 2**24).long() % 256
    chi2 = float(((torch.bincount(low_bits, minlength=256) - N / 256) ** 2 / (N / 256)).sum())
    assert abs(chi2 - 255) < 5 * math.sqrt(2 * 255)


def test_streams_are_uncorrelated() -> None:
    first = Draw.of(0, "layers.1.w").uniform((N,), 0)
    others = [
        Draw.of(0, "layers.1.w").uniform((N,), 1),
        Draw.of(1, "layers.1.w").uniform((N,), 0),
        Draw.of(0, "layers.2.w").uniform((N,), 0),
    ]
    for other in others:
        assert abs(correlation(first, other)) < 5
    for lag in (1, 2, 16, 4096):
        assert abs(correlation(first[:-lag], first[lag:])) < 5


def test_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    Draw(3).uniform((1000,), 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_drop_keeps_the_share_and_the_expected_delta() -> None:
    delta = torch.randn(N, generator=torch.Generator().manual_seed(0))
    for density in (0.1, 0.5, 0.9):
        thinned = drop(delta.clone(), density, Draw.of(5, "w"), 0, rescale=True)
        kept = thinned != 0
        error = (float(kept.float().mean()) - density) / math.sqrt(density * (1 - density) / N)
        assert abs(error) < 5
        torch.testing.assert_close(thinned.abs().sum(), delta.abs().sum(), rtol=1e-5, atol=0)
        assert abs(correlation(kept.float(), (delta > 0).float())) < 5 * 12 * 0.25  # sd of the masks is at most 1/2
        ratio = thinned[kept] / delta[kept]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-5, atol=0)
        assert abs(float(ratio[0]) * density - 1) < 5 / math.sqrt(N * density)


def test_mean_over_seeds_approaches_the_delta() -> None:
    delta = torch.linspace(-1, 1, 64)
    seeds = 4000
    total = torch.zeros(64)
    for seed in range(seeds):
        total += drop(delta.clone(), 0.5, Draw.of(seed, "w"), 0, rescale=False)
    error = (total / seeds - 0.5 * delta) / (delta.abs() * 0.5 / math.sqrt(seeds))
    assert float(error.abs().max()) < 5
