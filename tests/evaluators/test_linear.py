"""Linear layers by oneDNN give what torch's own give, of the weights that are there at the moment."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from evaluators._linear import _available, by_onednn


class Own(nn.Linear):
    """Somebody's own layer."""


def pair(dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(260, 256), nn.Linear(256, 300, bias=False), nn.Linear(300, 8)).to(dtype)
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
    own = nn.Sequential(Own(300, 300))
    by_onednn(own)
    assert type(own[0]) is Own


@pytest.mark.parametrize("shape", [(260,), (1, 260), (0, 260), (7, 260), (3, 5, 260), (2, 0, 260)])
def test_products_are_those_of_torch(shape: tuple[int, ...]) -> None:
    plain, changed = pair()
    inputs = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(changed(inputs), plain(inputs), rtol=1e-5, atol=1e-5)


def test_inputs_that_are_not_contiguous() -> None:
    plain, changed = pair()
    with torch.inference_mode():
        for inputs in (torch.randn(5, 3, 260).transpose(0, 1), torch.randn(4, 520)[:, ::2], torch.randn(260, 6).T):
            torch.testing.assert_close(changed(inputs), plain(inputs), rtol=1e-5, atol=1e-5)


def test_weights_that_are_overwritten_count_at_once() -> None:
    plain, changed = pair()
    inputs = torch.randn(4, 260)
    with torch.inference_mode():
        before = changed(inputs)
        for mine, theirs in zip(changed.parameters(), plain.parameters(), strict=True):
            new = 0.05 * torch.randn_like(mine)
            mine.copy_(new)
            theirs.copy_(new)
        after = changed(inputs)
        torch.testing.assert_close(after, plain(inputs), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(before, after)
