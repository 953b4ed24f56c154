"""The readable executor against the definition of plans, entry by entry, in numbers that float32 holds exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergers._execution.kernels import blocks
from mergers._maths.draw import Draw
from mergers._plan import NOTHING_YET, Band, Everything, Mask, Nothing, Random, Rank, Ranked, Sparse, Weighted

SIZE = 37
DRAW = Draw(7, "layer")


def order(delta: list[float]) -> list[int]:
    """Positions by |d| descending, then by position."""
    return sorted(range(len(delta)), key=lambda e: (-abs(delta[e]), e))


def end(delta: list[float], count: int) -> Rank:
    last = order(delta)[count - 1] if count else -1
    return Rank(abs(delta[last]), last) if count else NOTHING_YET


@st.composite
def merges(draw: st.DrawFn) -> tuple[list[float], list[list[float]], Sparse, list[set[int]], list[torch.Tensor | None]]:
    """Base, experts, plan, and which positions each expert's mask keeps."""
    whole = st.integers(-8, 8).map(float)
    row = st.lists(whole, min_size=SIZE, max_size=SIZE)
    base, experts = draw(row), draw(st.lists(row, min_size=1, max_size=4))
    masks: list[Mask] = []
    kept: list[set[int]] = []
    keys: list[torch.Tensor | None] = []
    for i, expert in enumerate(experts):
        delta = [x - b for x, b in zip(expert, base, strict=True)]
        kind = draw(st.sampled_from(("everything", "nothing", "band", "random", "ranked")))
        key = None
        if kind == "band":
            low, high = sorted(draw(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))))
            masks.append(Band(end(delta, low), end(delta, high)))
            kept.append(set(order(delta)[low:high]))
        elif kind == "random":
            threshold = draw(st.integers(1, 65535))
            masks.append(Random(DRAW.seed, DRAW.name, i, threshold))
            kept.append({e for e, bits in enumerate(DRAW.bits(SIZE, i).tolist()) if bits < threshold})
        elif kind == "ranked":
            kept.append(draw(st.sets(st.integers(0, SIZE - 1))))
            key = torch.tensor([0 if e in kept[-1] else 255 for e in range(SIZE)], dtype=torch.uint8)
            masks.append(Ranked(DRAW.seed, DRAW.name, i, 0.2, 0.4))
        else:
            masks.append(Everything() if kind == "everything" else Nothing())
            kept.append(set(range(SIZE)) if kind == "everything" else set())
        keys.append(key)
    numbers = st.lists(st.sampled_from((0.25, 0.5, 1.0, 2.0)), min_size=len(experts), max_size=len(experts))
    signs = draw(st.lists(st.sampled_from((-1, 1)), min_size=len(experts), max_size=len(experts)))
    weights = tuple(sign * number for sign, number in zip(signs, draw(numbers), strict=True))
    consensus = draw(st.booleans())
    plan = Sparse(
        tuple(masks),
        tuple(draw(numbers)),
        weights,
        consensus,
        draw(st.booleans()),
        draw(st.sampled_from(("no", "weights", "count"))) if consensus else "no",
        draw(st.sampled_from((0.5, 1.0, -2.0))),
    )
    return base, experts, plan, kept, keys


def merged(base: float, deltas: list[float], plan: Sparse) -> np.float32:
    """One entry, as `Sparse` defines it; a quotient and the last sum are the only roundings."""
    scaled = [s * d for s, d in zip(plan.scales, deltas, strict=True)]
    values = [w * d for w, d in zip(plan.weights, scaled, strict=True)]
    if not plan.consensus:
        return np.float32(base + plan.lambda_ * sum(values))
    signs = values if plan.weighted_election else scaled
    elected = 1 if sum(signs) >= 0 else -1
    agreeing = [i for i, sign in enumerate(signs) if sign * elected > 0]
    total = sum(values[i] for i in agreeing)
    divisor = {"no": 1.0, "weights": sum(plan.weights[i] for i in agreeing), "count": len(agreeing)}[plan.divide]
    return np.float32(base + plan.lambda_ * float(np.float32(total / (divisor or 1.0))))


@settings(max_examples=60, deadline=None)
@given(merges(), st.integers(0, SIZE), st.integers(0, SIZE))
def test_a_sparse_merge_is_its_definition(
    merge: tuple[list[float], list[list[float]], Sparse, list[set[int]], list[torch.Tensor | None]], one: int, two: int
) -> None:
    base, experts, plan, kept, keys = merge
    start, stop = min(one, two), max(one, two)
    out = torch.full((SIZE,), 99.0)
    tensors = [torch.tensor(expert) for expert in experts]
    assert blocks.sparse(torch.tensor(base), tensors, plan, out, start, stop, keys) == 0
    for e in range(SIZE):
        deltas = [x[e] - base[e] if e in mask else 0.0 for x, mask in zip(experts, kept, strict=True)]
        assert out[e].item() == (merged(base[e], deltas, plan) if start <= e < stop else 99.0)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_weighted_sum_crosses_blocks(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_CPU_BLOCK", 16)
    base, one, two = torch.arange(100.0), torch.arange(100.0).flip(0), torch.ones(100).bfloat16()
    out = torch.full((100,), 99.0)
    assert blocks.weighted(base, [one, two], Weighted(share, (2.0, -1.0)), out, 5, 83) == 0
    expected = share * base + 2 * one - 1
    assert torch.equal(out[5:83], expected[5:83])
    assert torch.equal(out[:5], torch.full((5,), 99.0))
    assert torch.equal(out[83:], torch.full((17,), 99.0))


def test_what_is_not_finite_once_rounded_is_counted() -> None:
    inputs = torch.tensor([1.0, torch.nan, torch.inf, 60000.0, -70000.0])
    for dtype, broken in ((torch.float32, 2), (torch.bfloat16, 2), (torch.float16, 3)):
        out = torch.empty(5, dtype=dtype)
        assert blocks.weighted(None, [inputs], Weighted(0.0, (1.0,)), out) == broken


@pytest.mark.parametrize("weighted", [True, False])
def test_a_vote_that_is_no_number_shows_in_the_merge(weighted: bool) -> None:
    one, two = torch.tensor([torch.nan, torch.inf]), torch.tensor([1.0, -torch.inf])
    plan = Sparse((Everything(),) * 2, (1.0,) * 2, (1.0,) * 2, True, weighted, "weights")
    out = torch.empty(2)
    assert blocks.sparse(torch.zeros(2), [one, two], plan, out) == 2
    assert out.isnan().all()


def test_random_masks_change_key_at_entry_2_to_the_32() -> None:
    delta, start = torch.ones(64), (1 << 32) - 32
    mask = Random(DRAW.seed, DRAW.name, 1, 30000)
    expected = torch.cat((DRAW.bits(32, 1, start=start), DRAW.bits(32, 1, start=1 << 32))) < 30000
    assert torch.equal(blocks.kept(mask, delta, start), expected)
