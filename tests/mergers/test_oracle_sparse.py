"""The task-vector methods against mergekit 0.1.5, and against the slow float64 versions of tests/oracles.

Random methods are held against mergekit under mergekit's own masks, recorded as it draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergers._maths.draw import Draw
from mergers.breadcrumbs import breadcrumbs
from mergers.breadcrumbs_ties import breadcrumbs_ties
from mergers.dare_linear import dare_linear
from mergers.dare_ties import dare_ties
from mergers.della import della
from mergers.della_linear import della_linear
from mergers.task_arithmetic import task_arithmetic
from mergers.ties import ties
from tests.mergers.strategies import Case, cases
from tests.oracles import sparse as slow

mergekit = pytest.importorskip("mergekit.merge_methods")
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "breadcrumbs": breadcrumbs,
    "breadcrumbs_ties": breadcrumbs_ties,
    "dare_linear": dare_linear,
    "dare_ties": dare_ties,
    "della": della,
    "della_linear": della_linear,
}
RANDOM = tuple(name for name in FUNCTIONS if name.startswith(("dare", "della")))
FIXED = tuple(name for name in FUNCTIONS if name not in RANDOM)
ELECTING = ("ties", "breadcrumbs_ties", "dare_ties", "della")
PAPER = ("ties", "breadcrumbs_ties", *RANDOM)
CONVENTIONS = [(method, "mergekit") for method in FUNCTIONS] + [(method, "paper") for method in PAPER]
EXAMPLES = settings(max_examples=100, deadline=None)


@dataclass(frozen=True)
class Setting:
    """The parameters beside weight and density."""

    normalize: bool
    rescale: bool
    lambda_: float
    gamma: tuple[float, ...]
    epsilon: tuple[float, ...]


def settings_for(count: int) -> st.SearchStrategy[Setting]:
    return st.builds(
        Setting,
        st.booleans(),
        st.booleans(),
        st.sampled_from((1.0, 0.5, -0.3, 0.0)),
        st.tuples(*(st.sampled_from((0.0, 0.01, 0.1, 0.3, 1.0)),) * count),
        st.tuples(*(st.sampled_from((0.0, 0.05, 0.15)),) * count),
    )


@st.composite
def problems(
    draw: st.DrawFn, method: str, dtypes: st.SearchStrategy[torch.dtype] | None = None
) -> tuple[Case, Setting]:
    case = draw(cases() if dtypes is None else cases(dtypes=dtypes))
    setting = draw(settings_for(len(case.experts)))
    if method.startswith("della"):  # density -+ epsilon must lie between 0 and 1
        chosen = st.sampled_from((0.0, 0.16, 0.25, 0.5, 0.77, 0.84, 1.0))
        density = draw(st.tuples(*(chosen,) * len(case.experts)))
        case = Case(case.base, case.experts, case.weight, density)
    if method in ELECTING:
        assume(decided(case))
    else:
        assume(not setting.normalize or abs(sum(case.weight)) > 0.05)
    return case, setting


def parameters(method: str, case: Case, setting: Setting) -> dict[str, Any]:
    """Keywords of our function."""
    found: dict[str, Any] = {"weight": case.weight, "normalize": setting.normalize, "lambda_": setting.lambda_}
    if method != "task_arithmetic":
        found |= {"density": case.density, "rescale": setting.rescale}
    if method.startswith("breadcrumbs"):
        found["gamma"] = setting.gamma
    if method.startswith("della"):
        found["epsilon"] = setting.epsilon
    return found


def reference(method: str, tensors: Sequence[Tensor], ours: dict[str, Any], **types: torch.dtype) -> Tensor:
    """What mergekit makes of it; the base is the first tensor."""
    theirs = {key.rstrip("_"): list(value) if isinstance(value, tuple) else value for key, value in ours.items()}
    merged: Tensor = mergekit.merge_tensors(list(tensors), method, parameters=theirs, base_index=0, **types)
    return merged


def decided(case: Case) -> bool:
    """Whether no sum of weights lies so near zero that rounding decides whether it is divided by.

    Two weights that cancel do so in any arithmetic; more may leave a rest that depends on the order of the sum.
    """
    weight = [w for w in case.weight if w]
    subsets = [[w for bit, w in enumerate(weight) if mask >> bit & 1] for mask in range(1, 1 << len(weight))]
    return all(abs(sum(part)) > 1e-6 or (len(part) == 2 and sum(part) == 0) for part in subsets)


def ambiguous(case: Case, kept: Sequence[Sequence[bool]]) -> Tensor:
    """Entries that tie in magnitude, one kept and one not: mergekit's unstable sort keeps any of them, we the first."""
    found = torch.zeros(case.base.numel(), dtype=torch.bool)
    for expert, mask in zip(case.experts, kept, strict=True):
        magnitude = (expert - case.base).abs().float().flatten()
        keep = torch.tensor(mask, dtype=torch.bool)
        for value in set(magnitude[keep].tolist()) & set(magnitude[~keep].tolist()):
            found |= magnitude == value
    return found.view(case.base.shape)


def clear(case: Case, sparse: Sequence[Sequence[float]], weight: Sequence[float]) -> Tensor:
    """Entries whose election is not by a hair: where the sum is about zero, rounding, not the definition, elects."""
    parts = torch.tensor([[w * s for s in row] for w, row in zip(weight, sparse, strict=True)], dtype=torch.float64)
    size = parts.abs().sum(dim=0)
    margin = 1e-9 if case.base.dtype == torch.float64 else 1e-5
    return ((size == 0) | (parts.sum(dim=0).abs() > margin * size)).view(case.base.shape)


def deltas(case: Case) -> list[list[float]]:
    return [(expert - case.base).double().flatten().tolist() for expert in case.experts]


Masks = list[list[bool]]
Factors = list[list[float]]


def sparsified(
    method: str, case: Case, setting: Setting, bits: Callable[[int, int], int], *, paper: bool = False
) -> tuple[Masks, Factors]:
    """What the slow versions keep of each expert's difference, and the factor of each entry."""
    masks: Masks = []
    factors: Factors = []
    for i, delta in enumerate(deltas(case)):
        size, density = len(delta), case.density[i]
        factor = [1.0] * size
        partly = 0 < density < 1
        if method == "task_arithmetic":
            mask = [True] * size
        elif method == "ties":
            mask = slow.trimmed(delta, density)
        elif method.startswith("breadcrumbs"):
            mask = slow.banded(delta, density, setting.gamma[i])
        else:
            chance = [density] * size
            if method.startswith("della") and partly:
                chance = slow.chances(delta, slow.rows_of(case.base.shape), density, setting.epsilon[i])
            mask = [bits(i, j) < slow.level(chance[j]) if partly else density >= 1 for j in range(size)]
            if paper and partly and setting.rescale:
                factor = [1 / c for c in chance]
        if setting.rescale and method != "task_arithmetic" and not (paper and method in RANDOM):
            factor = [slow.matching(delta, mask) if density < 1 else 1.0] * size
        masks.append(mask)
        factors.append(factor)
    return masks, factors


def slowly(
    method: str, case: Case, setting: Setting, masks: Masks, factors: Factors, *, paper: bool = False
) -> tuple[Tensor, Tensor]:
    """The slow merge, and where it is clear."""
    base, *experts = (tensor.double().flatten().tolist() for tensor in (case.base, *case.experts))
    merged = slow.merged(
        base,
        experts,
        case.weight,
        masks,
        factors,
        election="none" if method not in ELECTING else "unweighted" if paper else "weighted",
        normalize=setting.normalize,
        lambda_=setting.lambda_,
    )
    where = torch.ones_like(case.base, dtype=torch.bool)
    if method in ELECTING:
        sparse = [
            [d * f * k for d, f, k in zip(*rows, strict=True)]
            for rows in zip(deltas(case), factors, masks, strict=True)
        ]
        where = clear(case, sparse, (1.0,) * len(experts) if paper else case.weight)
    return torch.tensor(merged, dtype=torch.float64).view(case.base.shape), where


def close(ours: Tensor, theirs: Tensor, tolerance: float, where: Tensor) -> None:
    atol = tolerance * max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(ours.double()[where], theirs.double()[where], rtol=0, atol=atol)


def never(index: int, element: int) -> int:
    raise AssertionError("this method draws nothing")


@pytest.mark.parametrize("method", FIXED)
@EXAMPLES
@given(data=st.data())
def test_deterministic_methods_equal_mergekit(method: str, data: st.DataObject) -> None:
    case, setting = data.draw(problems(method))
    keywords = parameters(method, case, setting)
    masks, factors = sparsified(method, case, setting, never)
    _, where = slowly(method, case, setting, masks, factors)
    where &= ~ambiguous(case, masks)
    assume(where.any())
    theirs = reference(method, (case.base, *case.experts), keywords)
    close(FUNCTIONS[method](case.base, case.experts, **keywords), theirs, case.tolerance, where)


@pytest.mark.parametrize(("method", "convention"), [pair for pair in CONVENTIONS if pair[0] in FIXED])
@EXAMPLES
@given(data=st.data())
def test_deterministic_methods_equal_the_slow_versions(method: str, convention: str, data: st.DataObject) -> None:
    case, setting = data.draw(problems(method, st.just(torch.float64)))
    paper = convention == "paper"
    keywords = parameters(method, case, setting) | ({"convention": "paper"} if paper else {})
    masks, factors = sparsified(method, case, setting, never, paper=paper)
    theirs, where = slowly(method, case, setting, masks, factors, paper=paper)
    close(FUNCTIONS[method](case.base, case.experts, **keywords), theirs, case.tolerance, where)


@pytest.mark.parametrize(("method", "convention"), [pair for pair in CONVENTIONS if pair[0] in RANDOM])
@EXAMPLES
@given(data=st.data(), seed=st.integers(-(2**40), 2**70))
def test_random_methods_equal_the_slow_versions(method: str, convention: str, data: st.DataObject, seed: int) -> None:
    case, setting = data.draw(problems(method, st.just(torch.float64)))
    paper = convention == "paper"
    keywords = parameters(method, case, setting) | {"convention": convention, "draw": Draw(seed, "model.w")}
    masks, factors = sparsified(method, case, setting, lambda i, j: slow.bits(seed, "model.w", i, j), paper=paper)
    theirs, where = slowly(method, case, setting, masks, factors, paper=paper)
    close(FUNCTIONS[method](case.base, case.experts, **keywords), theirs, case.tolerance, where)


@dataclass(frozen=True)
class Replay(Draw):
    """Bits that keep what a recorded mask keeps, whatever the probability; stands in for `Draw` in a test."""

    masks: tuple[Tensor | None, ...] = ()

    def bits(self, count: int, index: int, device: torch.device | str = "cpu", *, start: int = 0) -> Tensor:
        mask = self.masks[index]
        assert mask is not None, "mergekit drew nothing for this expert"
        return torch.where(mask.flatten()[start : start + count] != 0, 0, 65535).to(torch.int32)


@contextmanager
def recorded() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """(probabilities, mask) of every draw of torch.bernoulli inside."""
    calls: list[tuple[Tensor, Tensor]] = []
    original = torch.bernoulli

    def bernoulli(chances: Tensor) -> Tensor:
        calls.append((chances, original(chances)))
        return calls[-1][1]

    with patch.object(torch, "bernoulli", bernoulli):
        yield calls


def replayed(
    method: str, tensors: Sequence[Tensor], keywords: dict[str, Any], seed: int, **types: torch.dtype
) -> tuple[Tensor, Replay, list[Tensor | None]]:
    """mergekit's merge, its masks, and its keep probabilities (None where it drew nothing)."""
    torch.manual_seed(seed)
    with recorded() as calls:
        theirs = reference(method, tensors, keywords, **types)
    draws = iter(calls)
    drew = [share < 1 and (share > 0 or method.startswith("dare")) for share in keywords["density"]]
    found = [next(draws) if yes else (None, None) for yes in drew]
    assert next(draws, None) is None
    return theirs, Replay(0, "", tuple(mask for _, mask in found)), [chances for chances, _ in found]


@pytest.mark.parametrize("method", RANDOM)
@EXAMPLES
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_random_methods_equal_mergekit_under_its_masks(method: str, data: st.DataObject, seed: int) -> None:
    case, setting = data.draw(problems(method))
    shape = case.base.shape
    # In a row of one entry mergekit's probability is 0 / 0, and it fails.
    assume(method.startswith("dare") or shape[min(1, len(shape) - 1)] > 1)
    keywords = parameters(method, case, setting)
    theirs, draw, chances = replayed(method, (case.base, *case.experts), keywords, seed)
    masks, factors = sparsified(method, case, setting, lambda i, j: int(draw.bits(1, i, start=j)))
    _, where = slowly(method, case, setting, masks, factors)
    ours = FUNCTIONS[method](case.base, case.experts, **keywords, draw=draw)
    # mergekit thins float64 tensors in float32, hence a float32 tolerance for both types.
    close(ours, theirs, 1e-5, where)
    for i, (delta, chance) in enumerate(zip(deltas(case), chances, strict=True)):
        if method.startswith("della") and chance is not None and len(set(map(abs, delta))) == len(delta):
            ranked = slow.chances(delta, slow.rows_of(shape), case.density[i], setting.epsilon[i])
            expected = torch.tensor(ranked, dtype=torch.float64)
            torch.testing.assert_close(chance.double().flatten(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", FUNCTIONS)
def test_bfloat16_is_rounded_once(method: str) -> None:
    generator = torch.Generator().manual_seed(5)
    base, *experts = (torch.randn(300, 20, generator=generator).bfloat16() for _ in range(3))
    case = Case(base.float(), tuple(x.float() for x in experts), (0.3, 0.45), (0.4, 0.6))
    setting = Setting(method in ("ties", "della"), method in RANDOM, 1.0, (0.01, 0.02), (0.15, 0.15))
    keywords = parameters(method, case, setting)
    types = {"dtype": torch.float32, "out_dtype": torch.bfloat16}
    where = torch.ones_like(base, dtype=torch.bool)
    if method in RANDOM:
        theirs, draw, _ = replayed(method, (base, *experts), keywords, 1, **types)
        ours = FUNCTIONS[method](case.base, case.experts, **keywords, draw=draw)
    else:
        theirs = reference(method, (base, *experts), keywords, **types)
        ours = FUNCTIONS[method](case.base, case.experts, **keywords)
        masks, _ = sparsified(method, case, setting, never)
        where = ~ambiguous(case, masks)
    assert theirs.dtype == torch.bfloat16
    steps = (ours.bfloat16().view(torch.int16).int() - theirs.view(torch.int16).int()).abs()[where]
    assert int(steps.max()) <= 1
    assert float((steps > 0).float().mean()) < 1e-3
