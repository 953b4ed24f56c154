"""The search space of one merge method over one expert set: named bounded dimensions, decoded into merges.

Read from the method's signature, with two redundancies taken out. A method that divides by the sum of its weights does
not change when all weights grow alike, so its weights live on the simplex (k - 1 numbers for k experts, uniform under
uniform sampling). And a merge that gives one expert everything is that expert, which was scored already: such corners
are handed to the sampler as known points instead of being evaluated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergers._schema import Method
from mergers._spec import Merge

DECIMALS = 6  # coefficients are exact decimals, so that a card, a YAML file and the database state the same merge


@dataclass(frozen=True)
class Dimension:
    """One number to search: `name`, closed bounds `low` <= value <= `high`; with a `step`, rounded to its multiples."""

    name: str
    low: float
    high: float
    step: float | None = None


@dataclass(frozen=True)
class Space:
    """What one search may vary.

    Attributes:
        method: merge method, as a recipe names it.
        experts: names, in the order of every per-expert tuple.
        dimensions: what the sampler proposes, in order.
        coefficients: `box` (one weight per expert), `simplex` (stick-breaking), or `none` (the method has no weights).
        seed: of the method's random masks.
    """

    method: str
    experts: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    coefficients: str
    seed: int

    def decode(self, values: Mapping[str, float]) -> Merge:
        """The merge that a point of the space stands for."""
        params: dict[str, float | tuple[float, ...]] = {}
        if self.coefficients == "simplex":
            sticks = [values[f"split.{name}"] for name in self.experts[:-1]]
            params["weight"] = _round_to_one(from_sticks(sticks))
        elif self.coefficients == "box":
            params["weight"] = tuple(round(values[f"weight.{name}"], DECIMALS) for name in self.experts)
        for dimension in self.dimensions:
            if not dimension.name.startswith(("split.", "weight.")):
                params[dimension.name] = _rounded(values[dimension.name], dimension.step)
        return Merge(self.method, tuple(sorted(params.items())), self.seed)

    def uniform(self) -> dict[str, float]:
        """All experts alike, everything kept: the merge that people try first."""
        return self._point(tuple(1.0 / len(self.experts) for _ in self.experts))

    def corners(self) -> tuple[tuple[str, dict[str, float]], ...]:
        """Points that reproduce a model scored anyway: (expert's name or `base`, values)."""
        from mergers._probe import reproduced

        count = len(self.experts)
        points = [self._point(tuple(float(i == j) for j in range(count))) for i in range(count)]
        if self.coefficients == "box":
            points.append(self._point((0.0,) * count))
        bounds = {dimension.name: dimension for dimension in self.dimensions}
        inside = [p for p in points if all(bounds[k].low <= value <= bounds[k].high for k, value in p.items())]
        names = ("base", *self.experts)
        found = [(reproduced(self.decode(point), count), point) for point in inside]
        return tuple((names[index], point) for index, point in found if index is not None)

    def _point(self, weight: tuple[float, ...]) -> dict[str, float]:
        values: dict[str, float] = {}
        if self.coefficients == "simplex":
            values |= zip((f"split.{name}" for name in self.experts[:-1]), to_sticks(weight), strict=True)
        elif self.coefficients == "box":
            values |= zip((f"weight.{name}" for name in self.experts), weight, strict=True)
        for dimension in self.dimensions:
            if dimension.name == "t":
                values["t"] = weight[-1]  # slerp counts from the first of its two experts
            elif dimension.name not in values:
                values[dimension.name] = dimension.high  # density 1: nothing dropped
        return values


def space_of(method: Method, experts: Sequence[str], *, coefficients: str, seed: int) -> Space:
    """The search space of `method` over `experts`, read from the method's signature.

    Args:
        method: as loaded from its file.
        experts: names in merge order.
        coefficients: the recipe's key: `free` (a box where scale matters, else the simplex) or `simplex`.
        seed: of random masks.
    """
    from mergers._probe import scale_free

    dimensions: list[Dimension] = []
    kind = "none"
    for parameter in method.parameters:
        if parameter.search is None:
            continue
        if parameter.name == "weight" and parameter.per_expert:
            kind = "simplex" if coefficients == "simplex" or scale_free(method.name, len(experts)) else "box"
            dimensions += _weights(kind, experts, parameter.search)
        else:
            dimensions.append(Dimension(parameter.name, *parameter.search, parameter.step))
    return Space(method.name, tuple(experts), tuple(dimensions), kind, seed)


def _weights(kind: str, experts: Sequence[str], bounds: tuple[float, float]) -> list[Dimension]:
    if kind == "simplex":
        return [Dimension(f"split.{name}", 0.0, 1.0) for name in experts[:-1]]
    return [Dimension(f"weight.{name}", *bounds) for name in experts]


def from_sticks(sticks: Sequence[float]) -> tuple[float, ...]:
    """Weights on the simplex from k - 1 numbers in [0, 1], uniform on it when they are uniform.

    Stick-breaking: expert i takes the share 1 - (1 - u_i)^(1 / (k - 1 - i)) of what is left, the quantile function of
    Beta(1, k - 1 - i) (Devroye, Non-Uniform Random Variate Generation, ch. XI.4).
    """
    left, weights = 1.0, []
    for index, stick in enumerate(sticks):
        share = 1.0 - (1.0 - stick) ** (1.0 / (len(sticks) - index))
        weights.append(left * share)
        left *= 1.0 - share
    return (*weights, left)


def to_sticks(weights: Sequence[float]) -> tuple[float, ...]:
    """The inverse of `from_sticks`; where nothing is left to share, 0."""
    left, sticks = sum(weights), []
    for index, weight in enumerate(weights[:-1]):
        share = weight / left if left > 1e-12 else 0.0
        sticks.append(1.0 - (1.0 - share) ** (len(weights) - 1 - index))
        left -= weight
    return tuple(min(1.0, max(0.0, stick)) for stick in sticks)


def _rounded(value: float, step: float | None) -> float:
    return round(value, DECIMALS) if step is None else round(value / step) * step


def _round_to_one(weights: Sequence[float]) -> tuple[float, ...]:
    """Rounded weights whose sum is still 1: the largest takes what rounding left over."""
    rounded = [round(weight, DECIMALS) for weight in weights]
    largest = max(range(len(rounded)), key=rounded.__getitem__)
    rounded[largest] = round(rounded[largest] + 1.0 - sum(rounded), DECIMALS)
    return tuple(rounded)
