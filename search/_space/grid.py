"""Factorized weights: the expert of objective o and language l weighs a_o f_l."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .sticks import DECIMALS

_DIGITS = 12  # significant ones of a product: enough to find its factors again


@dataclass(frozen=True)
class Grid:
    """One expert for every pair of an objective and a language.

    Attributes:
        objectives: names, two or more.
        languages: codes, two or more.
        cells: for each expert, in merge order, the indices of its objective and its language; every pair once.
    """

    objectives: tuple[str, ...]
    languages: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]

    def product(self, objective: Sequence[float], language: Sequence[float]) -> tuple[float, ...]:
        """Weights of the experts, from weights of objectives and of languages."""
        return tuple(_digits(objective[o] * language[f]) for o, f in self.cells)

    def rows(self, weights: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """Weights of the experts as a matrix: a row for each objective, a column for each language."""
        matrix = [[0.0] * len(self.languages) for _ in self.objectives]
        for weight, (objective, language) in zip(weights, self.cells, strict=True):
            matrix[objective][language] = weight
        return tuple(map(tuple, matrix))


def factors(shares: Sequence[float]) -> tuple[float, ...]:
    """Factors of languages, from shares on the simplex: proportional to them, of length 1.

    A product does not change when one side grows as the other shrinks. Fixing the length takes that freedom out, and
    says what is left: languages turn the merge, objectives set how far it goes. Where the experts' differences stand at
    right angles, as they nearly do, the sum over the languages of an objective is as long as its weight says, whatever
    the shares. One language alone has factor 1; L alike have 1 / sqrt(L) each.
    """
    norm = math.sqrt(sum(share * share for share in shares))
    return tuple(share / norm for share in shares)


def length_bounds(bounds: tuple[float, float], languages: int) -> tuple[float, float]:
    """Bounds of an objective's weight from those of an expert's: between all of its experts at one end or the other."""
    low, high = (round(bound * math.sqrt(languages), DECIMALS) for bound in bounds)
    return low, high


def split_product(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights on a simplex as the product of two simplices: sums of the rows, sums of the columns; decimals."""
    objectives = tuple(round(math.fsum(row), DECIMALS) for row in rows)
    return objectives, tuple(round(math.fsum(column), DECIMALS) for column in zip(*rows, strict=True))


def split_factors(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights as objective weights times `factors` of shares; decimals. Where all are 0, the shares are alike."""
    sizes = tuple(math.copysign(math.sqrt(sum(w * w for w in row)), math.fsum(row)) for row in rows)
    longest = max(range(len(rows)), key=lambda index: abs(sizes[index]))
    total = math.fsum(rows[longest])
    count = len(rows[longest])
    shares = tuple(weight / total for weight in rows[longest]) if total else (1.0 / count,) * count
    return tuple(round(size, DECIMALS) for size in sizes), tuple(round(share, DECIMALS) for share in shares)


def _digits(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
