"""Hypothesis strategies: tensors, weights and densities for one merge call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)),
)
WEIGHTS = st.integers(-20, 20).map(lambda tenths: tenths / 10)
DENSITIES = st.sampled_from((0.0, 1e-9, 0.1, 0.25, 0.5, 0.77, 0.999, 1.0))
DTYPES = st.sampled_from((torch.float64, torch.float32))


@dataclass(frozen=True)
class Case:
    """A base, experts near it, and per-expert numbers."""

    base: Tensor
    experts: tuple[Tensor, ...]
    weight: tuple[float, ...]
    density: tuple[float, ...]

    @property
    def tolerance(self) -> float:
        """Absolute, for values of about 1."""
        return 1e-12 if self.base.dtype == torch.float64 else 2e-6


@st.composite
def cases(draw: st.DrawFn, *, dtypes: st.SearchStrategy[torch.dtype] = DTYPES, least: int = 1, most: int = 5) -> Case:
    """Random tensors from a drawn seed; `coarse` ones lie on a grid, so that magnitudes tie and signs cancel."""
    shape, dtype, count = draw(SHAPES), draw(dtypes), draw(st.integers(least, most))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    coarse = draw(st.booleans())
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count + 1)]
    if coarse:
        tensors = [(tensor * 4).round() / 4 for tensor in tensors]
    base, *experts = (tensor.to(dtype) for tensor in tensors)
    weight = draw(st.tuples(*(WEIGHTS,) * count))
    density = draw(st.tuples(*(DENSITIES,) * count))
    return Case(base, tuple(experts), weight, density)
