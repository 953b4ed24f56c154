"""Random numbers by position: equal to their definition, independent of how they are asked for, and random."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers._maths.draw import LEVELS, Draw, threshold
from tests.oracles import sparse as slow

N = 1 << 18
SHARES = (0.1, 0.5, 0.9)


def bits(seed: int = 0, name: str = "model.layers.1.mlp.up_proj.weight", index: int = 0, count: int = N) -> Tensor:
    return Draw(seed, name).bits(count, index)


def correlation(x: Tensor, y: Tensor) -> float:
    """Standardised: about normal(0, 1) for independent numbers."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    return float((x * y).mean() / (x.std() * y.std())) * math.sqrt(x.numel())


def excess(counts: Tensor) -> float:
    """Chi-square of counts that should be equal, standardised."""
    expected, free = counts.double().mean(), counts.numel() - 1
    return (float(((counts.double() - expected) ** 2 / expected).sum()) - free) / math.sqrt(2 * free)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(-(2**70), 2**70),
    name=st.text(max_size=12),
    index=st.integers(0, 30),
    start=st.one_of(st.integers(0, 2**40), st.integers(2**32 - 4, 2**32 + 4), st.integers(2**31 - 4, 2**31 + 4)),
)
def test_equals_the_definition(seed: int, name: str, index: int, start: int) -> None:
    ours = Draw(seed, name).bits(6, index, start=start)
    assert ours.dtype == torch.int32
    assert ours.tolist() == [slow.bits(seed, name, index, start + j) for j in range(6)]


def test_known_numbers_never_change() -> None:
    """Anyone's merge of last year must come out the same."""
    assert Draw(0, "w").keys(0) == (3111140999, 3512007788)
    assert Draw(0, "w").bits(4, 0).tolist() == [34056, 32158, 40643, 31066]
    assert Draw(0, "w").bits(4, 1).tolist() == [4193, 24191, 43105, 33824]


@pytest.mark.parametrize("index", [0, 3])
def test_a_stretch_is_the_stretch_of_the_whole(index: int) -> None:
    draw = Draw(7, "w")
    whole = draw.bits(300_000, index)
    assert torch.equal(whole[65_000:140_001], draw.bits(75_001, index, start=65_000))
    assert torch.equal(whole[200_000:], draw.bits(100_000, index, start=200_000))
    far = draw.bits(200_000, index, start=(1 << 32) - 100_000)  # over the end of a key's entries, and of a block
    assert torch.equal(far[99_990:100_010], draw.bits(20, index, start=(1 << 32) - 10))
    assert draw.bits(0, index).numel() == 0


@pytest.mark.parametrize("index", [0, 1])
def test_all_sixteen_bits_are_uniform(index: int) -> None:
    numbers = bits(index=index, count=1 << 20)
    assert int(numbers.min()) >= 0
    assert int(numbers.max()) < LEVELS
    assert abs(excess(torch.bincount(numbers, minlength=LEVELS))) < 5
    for bit in range(16):
        ones = int((numbers >> bit & 1).sum())
        assert abs(ones - (1 << 19)) < 5 * math.sqrt(1 << 18)


OTHERS = {
    "expert of the pair": bits(index=1),
    "pair": bits(index=2),
    "expert of another pair": bits(index=3),
    "seed": bits(seed=1),
    "negative seed": bits(seed=-1),
    "one letter": bits(name="model.layers.2.mlp.up_proj.weight"),
    "one letter less": bits(name="model.layers.1.mlp.up_proj.weigh"),
    "high word": Draw(0, "model.layers.1.mlp.up_proj.weight").bits(N, 0, start=1 << 32),
}


@pytest.mark.parametrize("other", OTHERS)
def test_streams_are_independent(other: str) -> None:
    first, second = bits(), OTHERS[other]
    assert abs(correlation(first, second)) < 5
    both = torch.bincount((first >> 11) * 32 + (second >> 11), minlength=1024)  # joint law of the upper five bits
    assert abs(excess(both)) < 5
    for share in SHARES:
        assert abs(correlation(first < threshold(share), second < threshold(share))) < 5


def test_neighbours_are_independent() -> None:
    for index in (0, 1):
        numbers = bits(index=index)
        for lag in (*range(1, 65), 128, 1024, 4096, 11008, 65536):
            assert abs(correlation(numbers[:-lag], numbers[lag:])) < 5
        for share in SHARES:
            kept = numbers < threshold(share)
            for lag in range(1, 65):
                assert abs(correlation(kept[:-lag], kept[lag:])) < 5
        pairs = torch.bincount((numbers[::2] >> 11) * 32 + (numbers[1::2] >> 11), minlength=1024)
        assert abs(excess(pairs)) < 5


def test_rows_and_columns_of_a_mask_vary_as_they_should() -> None:
    for share in SHARES:
        kept = (bits() < threshold(share)).double().view(512, 512)
        for axis in (0, 1):
            variance = float(kept.sum(dim=axis).var()) / (512 * share * (1 - share))
            assert abs(variance - 1) < 5 * math.sqrt(2 / 511)


def test_thresholds_are_the_nearest_levels_and_never_all_or_none() -> None:
    assert threshold(0.5) == 32768
    assert threshold(0.1) == 6554
    assert threshold(1e-9) == 1
    assert threshold(1 - 1e-9) == 65535
    for step in range(1, 64):
        assert threshold(step / 64) == step * 1024
    for chance in torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist():
        assert threshold(chance) == slow.level(chance)
        assert abs(threshold(chance) / LEVELS - chance) <= 1 / LEVELS


def test_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    bits(count=1000)
    assert torch.equal(before, torch.random.get_rng_state())
