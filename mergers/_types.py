"""Annotations that turn a merge method's signature into its schema.

A method is one public function, named as its file:

    def ties(base: Tensor, experts: Sequence[Tensor], *, weight: Annotated[Numbers, PerExpert(...)]) -> Tensor

* `base` as first argument: the method needs a base.
* `experts`: one tensor per expert, in merge order. `Annotated[Sequence[Tensor], Count(2, 2)]` bounds their
  number.
* `draw: Draw`: the method uses random numbers, and takes them from nowhere else.
* Every other keyword is a parameter: `Annotated[float, Range(...)]`, `Annotated[int, Range(...)]`,
  `Annotated[Numbers, PerExpert(...)]`, `bool`, or `Annotated[str, Choice(...)]`.
* `base: Tensor | None = None`: the method can do with a base and without.

The function is the reference: plain torch on whole tensors. A second one, `plan`, may say the same merge as data for
the fused kernels (`_plan`, `_statistics`):

    def plan(tensor: Statistics, *, weight, density, ...) -> Plan

It gets every parameter, those per expert as tuples, and `draw` where the method is random.

Tensors of one call share shape, device and dtype (float32; float64 in tests); the result has the same. Inputs
are borrowed: a method never writes into them. The caller rounds to the output type, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Numbers = float | Sequence[float]
"""A per-expert parameter: one number for all experts, or one per expert in merge order."""


class Range(NamedTuple):
    """Bounds of one number: valid in [low, high] (may be infinite), searched in `search` (None: not).

    `step`: searched on its multiples only; what a tensor must be measured for is then measured for all of them at once.
    """

    low: float
    high: float
    search: tuple[float, float] | None = None
    step: float | None = None


class PerExpert(NamedTuple):
    """As `Range`, for a parameter that may hold one number per expert."""

    low: float
    high: float
    search: tuple[float, float] | None = None
    step: float | None = None


class Count(NamedTuple):
    """How many experts the method takes; no upper bound if `high` is None."""

    low: int
    high: int | None = None


class Choice(NamedTuple):
    """On a text parameter: the words it may be."""

    options: tuple[str, ...]


class DividesBySum(NamedTuple):
    """On a switch that divides the result by the plain sum of parameter `of`, which must not be 0."""

    of: str


def per_expert(value: Numbers, experts: int) -> tuple[float, ...]:
    """`value` as one number per expert."""
    numbers = (float(value),) * experts if isinstance(value, (int, float)) else tuple(value)
    if len(numbers) != experts:
        raise ValueError(f"{experts} experts need {experts} numbers, got {len(numbers)}")
    return numbers
