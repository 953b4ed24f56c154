"""The search space of one merge method over one expert set: named bounded dimensions, decoded into merges and back.

Read from the method's signature, less what would waste evaluations:

* A method that divides by the sum of its weights does not change when all of them grow alike: its weights live on the
  simplex (k - 1 numbers for k experts, uniform under uniform sampling).
* Factorized weights (objective times language) do not change when one side grows as the other shrinks: the factors
  of languages have length 1, or both sides live on a simplex.
* A parameter that changes nothing for this number of experts is no dimension.
* A merge that gives one expert everything is that expert, which was scored already: such corners are handed to the
  sampler as known points.

Experts are in one order, and no method of one search is searched in two, so no permutation is left to remove.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergers._schema import Method, Parameter
from mergers._spec import Merge, Value

from ._space.grid import Grid, factors, length_bounds, split_factors, split_product
from ._space.groups import WHOLE, Groups, LayoutError
from ._space.sticks import DECIMALS, decimal_weights, from_sticks, to_sticks

__all__ = ["WHOLE", "Dimension", "Grid", "Groups", "LayoutError", "Space", "from_sticks", "space_of", "to_sticks"]


@dataclass(frozen=True)
class Dimension:
    """One number to search.

    Attributes:
        name: `weight.EXPERT`, `split.EXPERT`, or the method's parameter; with `@GROUP` behind it where groups of
            layers have their own.
        low: smallest value.
        high: largest value.
        step: rounded to its multiples; None: to six decimals.
        usual: what people try first: the method's default, or as near as the bounds allow.
    """

    name: str
    low: float
    high: float
    step: float | None = None
    usual: float = 0.0


@dataclass(frozen=True)
class Space:
    """What one search may vary.

    Attributes:
        method: merge method, as a recipe names it.
        experts: names, in the order of every per-expert tuple.
        dimensions: what the sampler proposes, in order: group by group the coefficients, then what groups share.
        coefficients: `box` (numbers within the method's bounds), `simplex` (broken sticks), or `none` (the method has
            no weights: its parameters are what groups of layers have their own).
        seed: of the method's random masks.
        groups: of layers; each has its own coefficients.
        grid: None, or the weights are products of a number of the objective and one of the language.
    """

    method: str
    experts: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    coefficients: str
    seed: int
    groups: Groups = WHOLE
    grid: Grid | None = None

    @property
    def sticks(self) -> tuple[tuple[int, int], ...]:
        """(first, stop) dimension of each group of broken sticks, for the sampler's model."""
        names = [dimension.name for dimension in self.dimensions]
        sides = self._sides()
        found = []
        for group in self.groups.names:
            for side in sides:
                if side.simplex and len(side.names) > 1:
                    first = names.index(self._at(f"split.{side.names[0]}", group))
                    found.append((first, first + len(side.names) - 1))
        return tuple(found)

    def decode(self, values: Mapping[str, float]) -> Merge:
        """The merge that a point of the space stands for.

        Args:
            values: a number for each dimension, within its bounds.
        """
        params: dict[str, Value] = {}
        if self.coefficients != "none":
            each = [self._weights(values, group) for group in self.groups.names]
            params["weight"] = tuple(self.groups.setting(column) for column in zip(*each, strict=True))
        for name, found in self._parameters().items():
            numbers = [_rounded(values[dimension.name], dimension.step) for dimension in found]
            params[name] = numbers[0] if len(numbers) == 1 else self.groups.setting(numbers)
        return Merge(self.method, tuple(params.items()), self.seed)

    def encode(self, merge: Merge) -> dict[str, float]:
        """The point that stands for `merge`: `decode(encode(merge)) == merge`.

        Raises:
            ValueError: the merge is not of this space: another method or seed, a parameter that is not searched, a
                value out of bounds or between the steps, weights that are no product, layers grouped otherwise.
        """
        if (merge.method, merge.seed) != (self.method, self.seed):
            given = f"{merge.method} with seed {merge.seed}"
            raise ValueError(f"the merge is by {given}, this space is of {self.method} with seed {self.seed}")
        params = dict(merge.params)
        values: dict[str, float] = {}
        if self.coefficients != "none":
            weight = params.get("weight")
            if not isinstance(weight, tuple) or len(weight) != len(self.experts):
                raise ValueError(f"{merge.method} needs one weight for each of {', '.join(self.experts)}")
            columns = [self.groups.values(part) for part in weight]
            for index, group in enumerate(self.groups.names):
                values |= self._coefficients([float(column[index]) for column in columns], group)
        for name, found in self._parameters().items():
            setting = params.get(name)
            if setting is None or isinstance(setting, tuple):
                raise ValueError(f"{merge.method} needs one {name}")
            numbers = self.groups.values(setting)
            values |= {dimension.name: float(number) for dimension, number in zip(found, numbers, strict=False)}
        outside = next((d for d in self.dimensions if not d.low <= values[d.name] <= d.high), None)
        if outside is not None:
            raise ValueError(f"{outside.name} is {values[outside.name]:g}, out of [{outside.low:g}, {outside.high:g}]")
        if self.decode(values) != merge:
            raise ValueError(f"the merge is not a point of this space of {self.method}")
        return values

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
        found = [entry for number, entry in enumerate(found) if entry not in found[:number]]  # a method without weights
        return tuple((names[index], point) for index, point in found if index is not None)

    def _weights(self, values: Mapping[str, float], group: str) -> tuple[float, ...]:
        """Weights of the experts in one group."""
        sides = [self._side(values, side, group) for side in self._sides()]
        if self.grid is None:
            return sides[0]
        objective, language = sides
        return self.grid.product(objective, language if self.coefficients == "simplex" else factors(language))

    def _coefficients(self, weights: Sequence[float], group: str) -> dict[str, float]:
        """Values of one group's dimensions, from the weights of the experts."""
        parts: Sequence[Sequence[float]] = (weights,)
        if self.grid is not None:
            rows = self.grid.rows(weights)
            parts = split_product(rows) if self.coefficients == "simplex" else split_factors(rows)
        values: dict[str, float] = {}
        for side, part in zip(self._sides(), parts, strict=True):
            numbers = to_sticks(part) if side.simplex else tuple(part)
            keys = (self._at(name, group) for name in side.dimensions)
            values |= zip(keys, numbers, strict=True)
        return values

    def _side(self, values: Mapping[str, float], side: _Side, group: str) -> tuple[float, ...]:
        numbers = [values[self._at(name, group)] for name in side.dimensions]
        if side.simplex:
            return decimal_weights(numbers)
        return tuple(round(number, DECIMALS) for number in numbers)

    def _point(self, weight: tuple[float, ...]) -> dict[str, float]:
        """The point at which every group has these weights, and all else its usual value."""
        values = {dimension.name: dimension.usual for dimension in self.dimensions}
        for group in self.groups.names:
            if self.coefficients != "none":
                values |= self._coefficients(weight, group)
            if (name := self._at("t", group)) in values and len(weight) == 2:
                values[name] = weight[-1]  # slerp counts from the first of its two experts
        return values

    def _sides(self) -> tuple[_Side, ...]:
        return _sides(self.coefficients, self.experts, self.grid)

    def _parameters(self) -> dict[str, list[Dimension]]:
        """Parameters besides weights: name -> one dimension for each group, or one for all."""
        found: dict[str, list[Dimension]] = {}
        for dimension in self.dimensions:
            if not dimension.name.startswith(("split.", "weight.")):
                found.setdefault(dimension.name.partition("@")[0], []).append(dimension)
        return found

    def _at(self, name: str, group: str) -> str:
        return name if len(self.groups.names) == 1 else f"{name}@{group}"


def space_of(
    method: Method,
    experts: Sequence[str],
    *,
    coefficients: str,
    seed: int,
    groups: Groups = WHOLE,
    grid: Grid | None = None,
) -> Space:
    """The search space of `method` over `experts`, read from the method's signature.

    Args:
        method: as loaded from its file.
        experts: names in merge order.
        coefficients: the recipe's key: `free` (a box where scale matters, else the simplex), `simplex`, or `factorized`
            (as `free`, with weights that are products over `grid`).
        seed: of random masks.
        groups: of layers.
        grid: objective and language of each expert; used when factorized.
    """
    from mergers._probe import idle, scale_free

    kind, bounds = "none", (0.0, 1.0)
    others: list[Parameter] = []
    for parameter in method.parameters:
        if parameter.search is None:
            continue
        if parameter.name == "weight" and parameter.per_expert:
            kind = "simplex" if coefficients == "simplex" or scale_free(method.name, len(experts)) else "box"
            bounds = parameter.search
        elif not idle(method.name, parameter.name, len(experts)):
            others.append(parameter)
    used = grid if coefficients == "factorized" and kind != "none" else None
    assert coefficients != "factorized" or kind == "none" or used is not None, "factorized weights need a grid"
    if used is not None:
        bounds = length_bounds(bounds, len(used.languages))
    empty = Space(method.name, tuple(experts), (), kind, seed, groups, used)
    dimensions = []
    for group in groups.names:
        for side in _sides(kind, experts, used):
            low, high = (0.0, 1.0) if side.simplex else bounds
            dimensions += [Dimension(empty._at(name, group), low, high) for name in side.dimensions]
        if kind == "none":
            dimensions += [_dimension(parameter, empty._at(parameter.name, group)) for parameter in others]
    if kind != "none":
        dimensions += [_dimension(parameter, parameter.name) for parameter in others]
    return Space(method.name, tuple(experts), tuple(dimensions), kind, seed, groups, used)


@dataclass(frozen=True)
class _Side:
    """One vector of coefficients: of experts, or of objectives or languages where weights are products."""

    names: tuple[str, ...]
    simplex: bool

    @property
    def dimensions(self) -> tuple[str, ...]:
        if self.simplex:
            return tuple(f"split.{name}" for name in self.names[:-1])
        return tuple(f"weight.{name}" for name in self.names)


def _sides(kind: str, experts: Sequence[str], grid: Grid | None) -> tuple[_Side, ...]:
    if kind == "none":
        return ()
    if grid is None:
        return (_Side(tuple(experts), kind == "simplex"),)
    return (
        _Side(tuple(f"objective.{name}" for name in grid.objectives), kind == "simplex"),
        _Side(tuple(f"language.{name}" for name in grid.languages), True),
    )


def _dimension(parameter: Parameter, name: str) -> Dimension:
    assert parameter.search is not None, parameter
    low, high = parameter.search
    step = 1.0 if parameter.kind == "int" else parameter.step
    default = parameter.default
    usual = float(default) if isinstance(default, (int, float)) and math.isfinite(default) else high
    return Dimension(name, low, high, step, min(high, max(low, usual)))


def _rounded(value: float, step: float | None) -> float:
    return round(value, DECIMALS) if step is None else round(value / step) * step
