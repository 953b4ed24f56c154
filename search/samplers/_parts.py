"""An objective made of parts: the lowest of the languages' scores, say, or the mean of the lowest few.

The lowest of several noisy scores is a bad thing to model: it has kinks, the noise of one language alone, and the luck
of whichever language was unlucky. Each language by itself is smooth. So every part has a process of its own, and their
draws are put in order and averaged, draw by draw (composite objectives: Astudillo & Frazier 2019, arXiv:1906.01537).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ._gp import Paths
from ._types import Array


class Draws(Protocol):
    """Draws of one loss, as `_gp.Paths` has them."""

    @property
    def values(self) -> Array:
        """At the scored points and the extra ones: (n + p, draws)."""
        ...

    def at(self, z: Array, draws: int | None = None) -> Array:
        """At points (p, f): (p, draws)."""
        ...

    def tangent(self, z: Array) -> tuple[Array, Callable[[Array], Array]]:
        """`at(z)` (p, draws), and from left (p, draws) the gradient of sum_s left[p, s] at(z)[p, s] by z[p]: (p, f)."""
        ...


@dataclass(frozen=True)
class Ordered:
    """Draws of an ordered weighted average (Yager 1988) of several losses.

    Attributes:
        parts: draws of each part's loss.
        order: (k,) weights of the parts' losses from the lowest to the highest.
    """

    parts: tuple[Paths, ...]
    order: Array

    @property
    def values(self) -> Array:
        """At the scored points and the extra ones: (n + p, draws)."""
        return np.asarray(np.sort([part.values for part in self.parts], axis=0).T @ self.order).T

    def at(self, z: Array, draws: int | None = None) -> Array:
        """At points (p, f): (p, draws)."""
        return np.asarray(np.sort([part.at(z, draws) for part in self.parts], axis=0).T @ self.order).T

    def tangent(self, z: Array) -> tuple[Array, Callable[[Array], Array]]:
        """`at(z)`, and its gradient: each part's by the place that it has in a draw."""
        values, gradients = zip(*(part.tangent(z) for part in self.parts), strict=True)

        def gradient(left: Array) -> Array:
            shares = self.order[np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0)]
            pairs = zip(gradients, shares, strict=True)
            return np.asarray(np.sum([slope(left * share) for slope, share in pairs if share.any()], axis=0))

        return np.asarray(np.sort(values, axis=0).T @ self.order).T, gradient
