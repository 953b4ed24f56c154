"""Noisy expected hypervolume improvement, by draws of the front and rays through the objectives.

The volume that points dominate beyond a reference r is an integral over directions d: a ray from r leaves the dominated
region at t(d) = max_points min_j gain_j / d_j, and the volume is proportional to the mean of t(d)^m (Zhang & Golovin
2020). So the improvement by a candidate is the mean over draws of the front, and over rays, of
max(0, t_candidate^m - t_front^m): one formula for any number of objectives, unbiased, and cheap enough for
thousands of candidates. Every draw has rays of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ._gp import Paths
from ._parts import Draws
from ._types import Array
from .qmc import sobol

CHUNK = 4_000_000  # numbers held at once
INSIDE = 2.0  # a candidate on a bound counts as kept by 1 / (1 + e^2): on it, half of all points would fall outside


@dataclass(frozen=True)
class Improvement:
    """What a candidate is expected to add.

    Attributes:
        objectives: draws of each objective's loss.
        constraints: draws of each constraint; feasible at <= 0.
        softness: (c,) how far beyond its bound a constraint's draw still counts a little, so that there is a slope.
        reference: (m,) losses that the volume counts from.
        scale: (m,) that losses are divided by, so that rays spread evenly over the front.
        inverse: (m, draws, rays) one over the entries of the rays, which are positive unit vectors.
        reach: (draws, rays) t^m of the front as drawn.
    """

    objectives: tuple[Draws, ...]
    constraints: tuple[Paths, ...]
    softness: Array
    reference: Array
    scale: Array
    inverse: Array
    reach: Array

    def __call__(self, z: Array, draws: int | None = None) -> Array:
        """Expected improvement at points (p, f): (p,), up to a constant factor."""
        step = max(1, CHUNK // self.reach[:draws].size)
        return np.concatenate([self._few(z[i : i + step], draws) for i in range(0, len(z), step)])

    def _few(self, z: Array, draws: int | None) -> Array:
        gains = self._over([path.at(z, draws) for path in self.objectives])
        reach = gains[0][:, :, None] * self.inverse[0, :draws]
        for gain, inverse in zip(gains[1:], self.inverse[1:, :draws], strict=True):
            np.minimum(reach, gain[:, :, None] * inverse, out=reach)
        np.maximum(reach, 0.0, out=reach)
        added = _power(reach, len(gains))
        added -= self.reach[:draws]
        np.maximum(added, 0.0, out=added)
        return np.asarray((added.mean(axis=2) * self._kept(z, draws)).mean(axis=1))

    def _over(self, losses: Sequence[Array]) -> list[Array]:
        """Gain of each objective's draws over the reference: m arrays (p, draws)."""
        return [
            (reference - loss) / scale
            for loss, reference, scale in zip(losses, self.reference, self.scale, strict=True)
        ]

    def _kept(self, z: Array, draws: int | None) -> Array:
        """Softened probability that a draw keeps all constraints: (p, draws)."""
        kept = np.ones((len(z), len(self.reach[:draws])))
        for path, softness in zip(self.constraints, self.softness, strict=True):
            kept *= _chance(path.at(z, draws), softness)
        return kept

    def gradient(self, z: Array) -> tuple[Array, Array]:
        """Improvement (p,) and its gradient (p, f)."""
        values, slopes = zip(*(path.tangent(z) for path in self.objectives), strict=True)
        gains = self._over(values)
        power = len(gains)
        reach = gains[0][:, :, None] * self.inverse[0]
        tight = np.zeros(reach.shape, dtype=np.int8)
        for index in range(1, power):
            other = gains[index][:, :, None] * self.inverse[index]
            tight[other < reach] = index
            np.minimum(reach, other, out=reach)
        np.maximum(reach, 0.0, out=reach)
        lower = _power(reach, power - 1)
        added = np.maximum(lower * reach - self.reach, 0.0)
        limits = [path.tangent(z) for path in self.constraints]
        chances = [_chance(value, soft) for (value, _), soft in zip(limits, self.softness, strict=True)]
        kept = np.ones(gains[0].shape)
        for chance in chances:
            kept *= chance
        by_reach = np.where(added > 0, power * lower, 0.0) * kept[:, :, None] / self.reach.size
        total = np.zeros_like(z)
        for index, slope in enumerate(slopes):
            share = (np.where(tight == index, by_reach, 0.0) * self.inverse[index]).sum(axis=2)
            total += slope(-share / self.scale[index])
        mean = added.mean(axis=2)
        for (_, slope), chance, softness in zip(limits, chances, self.softness, strict=True):
            total += slope(-mean * kept * (1.0 - chance) / softness / len(self.reach))
        return np.asarray((mean * kept).mean(axis=1)), total


def improvement(
    objectives: tuple[Draws, ...],
    constraints: tuple[Paths, ...],
    success: tuple[Paths, ...],
    reference: Array,
    scale: Array,
    rays: int,
    seed: int,
) -> Improvement:
    """The improvement over the front of each draw at its own nodes (scored points and points under way).

    Args:
        objectives: draws of the losses.
        constraints: draws at the same nodes, feasible at <= 0.
        success: more constraints, on candidates alone: the nodes of the objectives are known to keep them.
        reference: (m,) losses that the volume counts from.
        scale: (m,) unit of each loss.
        rays: for each draw; a power of 2 spreads them best.
        seed: of the rays.
    """
    draws, count = objectives[0].values.shape[1], len(objectives)
    directions = _directions(count, draws * rays, seed).reshape(draws, rays, count)
    inverse = 1.0 / np.ascontiguousarray(directions.transpose(2, 0, 1))
    kept = np.ones(objectives[0].values.shape, dtype=bool)
    for path in constraints:
        kept &= path.values <= 0
    reach = np.full((draws, rays), -1.0)
    gains = [(r - path.values) / s for path, r, s in zip(objectives, reference, scale, strict=True)]
    for node in range(len(kept)):
        one = gains[0][node][:, None] * inverse[0]
        for gain, way in zip(gains[1:], inverse[1:], strict=True):
            np.minimum(one, gain[node][:, None] * way, out=one)
        np.maximum(reach, np.where(kept[node][:, None], one, -1.0), out=reach)
    limits = constraints + success
    softness = np.array([0.02 * path.model.scale for path in limits])
    return Improvement(objectives, limits, softness, reference, scale, inverse, _power(np.maximum(reach, 0.0), count))


def _directions(objectives: int, count: int, seed: int) -> Array:
    """Unit vectors with positive entries, spread evenly within each block of consecutive ones: (count, m)."""
    if objectives == 1:
        return np.ones((count, 1))
    if objectives == 2:
        angle = np.pi / 2 * sobol(1, seed, 0, count)[:, 0]
        found = np.column_stack([np.cos(angle), np.sin(angle)])
    else:
        found = np.abs(norm.ppf(np.clip(sobol(objectives, seed, 0, count), 1e-9, 1 - 1e-9)))
    found = np.maximum(found, 1e-6)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def _power(base: Array, exponent: int) -> Array:
    """base^exponent for a small whole exponent; several times faster than `**` from 3 on."""
    found = base if exponent else np.ones_like(base)
    for _ in range(exponent - 1):
        found = found * base
    return found.copy() if exponent == 1 else found


def _chance(value: Array, softness: float) -> Array:
    """That a draw counts as kept: a logistic step just inside the bound."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(-value / softness - INSIDE, -50.0, 50.0))))
