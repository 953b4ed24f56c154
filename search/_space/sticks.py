"""Weights on a simplex as independent numbers in [0, 1]: a stick, broken again and again."""

from __future__ import annotations

from collections.abc import Sequence

DECIMALS = 6  # coefficients are exact decimals, so that a card, a YAML file and the database state the same merge
_END = 2.0**-36  # closer to 1 a number in [0, 1] is too coarse to tell weights of `DECIMALS` decimals apart


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
        sticks.append(1.0 - max(0.0, 1.0 - share) ** (len(weights) - 1 - index))
        left -= weight
    return tuple(min(1.0, max(0.0, stick)) for stick in sticks)


def decimal_weights(sticks: Sequence[float]) -> tuple[float, ...]:
    """`from_sticks` as decimals that sum to 1: the largest weight takes what rounding left over.

    A stick within 2^-36 of its end is its end: beyond, steps of the stick are longer than those of the weights, and
    the way back would not arrive where it came from.
    """
    rounded = [round(weight, DECIMALS) for weight in from_sticks([1.0 if s > 1.0 - _END else s for s in sticks])]
    largest = max(range(len(rounded)), key=rounded.__getitem__)
    rounded[largest] = round(rounded[largest] + 1.0 - sum(rounded), DECIMALS)
    return tuple(rounded)
