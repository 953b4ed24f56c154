"""An objective made of parts: the lowest of the languages' scores, say, or the mean of the lowest few.

The lowest of several noisy scores is a bad thing to model: it has kinks, the noise of one language alone, and the luck
of whichever language was unlucky. Each language by itself is smooth. So every part has a process of its own, and their
draws are put in order and averaged, draw by draw (composite objectives: Astudillo & Frazier 2019, arXiv:1906.01537).
"""

from __future__ import annotations

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

    def gradient(self, z: Array, left: Array) -> Array:
        """Of sum_s left[p, s] at(z)[p, s] with respect to z[p]: (p, f)."""
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

    def gradient(self, z: Array, left: Array) -> Array:
        """Of sum_s left[p, s] at(z)[p, s] with respect to z[p]: (p, f); each part by the place it has in a draw."""
        place = np.argsort(np.argsort([part.at(z) for part in self.parts], axis=0, kind="stable"), axis=0)
        shares = self.order[place]
        slopes = [part.gradient(z, left * share) for part, share in zip(self.parts, shares, strict=True) if share.any()]
        return np.asarray(np.sum(slopes, axis=0))
