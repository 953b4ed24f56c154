"""Linear layers by oneDNN give what torch's own give, of the weights that are there at the moment."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from evaluators._linear import LEAST, _available, by_onednn

WIDE = LEAST // 256 + 8


class Own(nn.Linear):
    """Somebody's own layer."""


def pair(dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(WIDE, 256), nn.Linear(256, 600, bias=False), nn.Linear(600, 8)).to(dtype)
    changed = copy.deepcopy(plain)
    by_onednn(changed)
    return plain, changed


@pytest.mark.skipif(not _available(), reason="this torch has no oneDNN for this processor")
def test_the_large_ones_alone_are_changed() -> None:
    _, changed = pair()
    assert [type(layer) is nn.Linear for layer in changed] == [False, False, True]
    assert all(isinstance(layer, nn.Linear) for layer in changed)
    _, half = pair(torch.bfloat16)
    assert all(type(layer) is nn.Linear for layer in half)
    own = nn.Sequential(Own(600, 600))
    by_onednn(own)
    assert type(own[0]) is Own


@pytest.mark.parametrize("shape", [(WIDE,), (1, WIDE), (0, WIDE), (7, WIDE), (3, 5, WIDE), (2, 0, WIDE)])
def test_products_are_those_of_torch(shape: tuple[int, ...]) -> None:
    plain, changed = pair()
    inputs = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(changed(inputs), plain(inputs), rtol=1e-5, atol=1e-5)


def test_inputs_that_are_not_contiguous() -> None:
    plain, changed = pair()
    with torch.inference_mode():
        for inputs in (
            torch.randn(5, 3, WIDE).transpose(0, 1),
            torch.randn(4, 2 * WIDE)[:, ::2],
            torch.randn(WIDE, 6).T,
        ):
            torch.testing.assert_close(changed(inputs), plain(inputs), rtol=1e-5, atol=1e-5)


def test_weights_that_are_overwritten_count_at_once() -> None:
    plain, changed = pair()
    inputs = torch.randn(4, WIDE)
    with torch.inference_mode():
        before = changed(inputs)
        for mine, theirs in zip(changed.parameters(), plain.parameters(), strict=True):
            new = 0.05 * torch.randn_like(mine)
            mine.copy_(new)
            theirs.copy_(new)
        after = changed(inputs)
        torch.testing.assert_close(after, plain(inputs), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(before, after)
