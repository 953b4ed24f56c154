"""One Gaussian process: a quadratic trend, a smooth residual, and known noise.

    f(z) ~ GP(0, c^2 + a^2 v.v' + b^2 (v.v')^2 + q^2 |v|^2 |v'|^2 + s^2 k(|z - z'| / l))
    y    = f(z) + e,   e ~ N(0, h^2 stderr^2),   v = (z - 1/2) / l,   k = Matern 5/2

Scores of merges are close to quadratic in the coefficients (MAP, arXiv 2406.07529, from a Taylor expansion), so the
trend carries most of what few scores can say; as part of the kernel its coefficients are integrated out with shrinkage
instead of fitted. q stands for the curvature that all directions share: whatever is overdone costs, and in many
dimensions a prior that takes every curvature for a matter of its own needs as many scores as there are products to
see what a dozen could tell. Many landscapes are not so round, and there q makes the model too certain: it is 0 unless
the scores speak strongly for it. The length scales l (one for each feature, shared by trend and residual) have a prior
whose median grows with the square root of the number of features (Hvarfner, Hellsten & Nardi 2024). h is the only
freedom that the noise has: its prior sits at 1, and data move it where standard errors are wrong for the sampler's
purpose (items shared by all points make neighbours agree better than their standard errors say).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from ._types import Array

JITTER = 1e-6  # of the scores' variance
GUESS = 0.1  # standard error where none is known, as a share of the scores' spread
CONSTANT = 2.0  # variance of the mean, in units of the scores' variance
ROOT5 = np.sqrt(5.0)
EVIDENCE = 5.0  # log of a Bayes factor that Kass & Raftery (1995) call very strong; less does not buy a curvature
FIT_POINTS = 120  # hyperparameters change little beyond; the posterior uses all points


@dataclass(frozen=True)
class Model:
    """A fitted process. Scores are kept standardised: value = centre + scale * f.

    Attributes:
        z: (n, f) features of the scored points.
        y: (n,) standardised scores.
        noise: (n,) variance of `y`.
        length: (f,) length scales.
        amplitudes: (a, b, q, s) of linear trend, quadratic trend, common curvature and residual.
        centre: of the scores.
        scale: of the scores.
        lower: (n, n) Cholesky factor of the scores' covariance.
        weights: (n,) covariance^-1 y.
    """

    z: Array
    y: Array
    noise: Array
    length: Array
    amplitudes: Array
    centre: float
    scale: float
    lower: Array
    weights: Array

    def covariance(self, first: Array, second: Array) -> Array:
        """Prior covariance of f: (p, f), (q, f) -> (p, q)."""
        return self._joined(self._parts(first, second))

    def _parts(self, first: Array, second: Array) -> tuple[Array, Array, Array, Array]:
        return _parts(first / self.length, second / self.length, 0.5 / self.length)

    def _joined(self, parts: tuple[Array, Array, Array, Array]) -> Array:
        product, bowl, residual, _ = parts
        a, b, q, s = self.amplitudes**2
        return np.asarray(CONSTANT + a * product + b * product**2 + q * bowl + s * residual)

    def variance(self, z: Array) -> Array:
        """Prior variance of f: (p,)."""
        norm = (((z - 0.5) / self.length) ** 2).sum(axis=1)
        a, b, q, s = self.amplitudes**2
        return np.asarray(CONSTANT + a * norm + (b + q) * norm**2 + s)

    def tangent(self, z: Array, others: Array) -> tuple[Array, Callable[[Array], Array]]:
        """`covariance` (p, q), and from left (p, q) the slope of sum_q left[p, q] covariance[p, q] by z[p] (p, f)."""
        parts = self._parts(z, others)
        return self._joined(parts), lambda left: self._slope(z, others, left, parts[0], parts[3])

    def _slope(self, z: Array, others: Array, left: Array, product: Array, slope: Array) -> Array:
        u, w = z / self.length, others / self.length
        shift = 0.5 / self.length
        a, b, q, s = self.amplitudes**2
        trend = left * (a + 2 * b * product)
        bend = left * (2 * s * slope)  # d/du of k(r^2) is k' 2 (u - w)
        found = trend @ (w - shift) + bend.sum(axis=1)[:, None] * u - bend @ w
        found += (2 * q * (left @ ((w - shift) ** 2).sum(axis=1)))[:, None] * (u - shift)
        return np.asarray(found / self.length)

    def mean(self, z: Array) -> Array:
        """Posterior mean of f, standardised: (p,)."""
        return np.asarray(self.covariance(z, self.z) @ self.weights)


def _parts(u: Array, w: Array, shift: Array) -> tuple[Array, Array, Array, Array]:
    """Scaled features -> (v.v', |v|^2 |v'|^2, residual kernel, its derivative by the squared distance), each (p, q)."""
    gram = u @ w.T
    squared = np.maximum((u**2).sum(axis=1)[:, None] + (w**2).sum(axis=1)[None] - 2 * gram, 0.0)
    v, v_other = u - shift, w - shift
    bowl = np.outer((v**2).sum(axis=1), (v_other**2).sum(axis=1))
    distance = ROOT5 * np.sqrt(squared)
    decay = np.exp(-distance)
    return v @ v_other.T, bowl, (1 + distance + distance**2 / 3) * decay, -(5 / 6) * (1 + distance) * decay


def fit(z: Array, values: Array, stderr: Array | None, *, common: bool = True) -> Model:
    """The process most probable after the scores (maximum a posteriori).

    Args:
        z: (n, f) features.
        values: (n,) scores.
        stderr: (n,) their standard errors; None: unknown, one for all points is fitted.
        common: whether to ask if all directions share a curvature, which takes a second fit.
    """
    centre, scale = float(values.mean()), float(values.std())
    scale = scale if scale > 1e-12 * max(1.0, abs(centre)) else 1.0
    y = (values - centre) / scale
    # A rate of 0 or 1 comes with a standard error of 0, which is no certainty: half the typical one is the least.
    known = stderr is not None
    error = np.full(len(y), GUESS * scale) if stderr is None else np.maximum(stderr, 0.5 * np.median(stderr))
    variance = (error / scale) ** 2
    # The newest points tell most about where the search is; the first ones hold the corners and the spread.
    chosen = np.arange(len(y))
    if len(y) > FIT_POINTS:
        chosen = np.concatenate([chosen[: FIT_POINTS // 3], chosen[FIT_POINTS // 3 - FIT_POINTS :]])
    length, amplitudes, noise_scale = _hyperparameters(z[chosen], y[chosen], variance[chosen], known, common)
    noise = noise_scale**2 * variance + JITTER
    blank = np.zeros(0)
    prior = Model(z, y, noise, length, amplitudes, centre, scale, blank, blank)
    lower = cholesky(prior.covariance(z, z) + np.diag(noise), lower=True)
    return Model(z, y, noise, length, amplitudes, centre, scale, lower, cho_solve((lower, True), y))


def doubted(model: Model) -> Model:
    """The same scores under half the lengths and half the trend: as sure where they were made, less beyond.

    Lengths are learned where points are, and points are where the model sends them: on a front that it has found it can
    be so right, and so sure of what lies beyond, that it never looks there.
    """
    a, b, _, s = model.amplitudes
    length, amplitudes = 0.5 * model.length, np.array([0.25 * a, 0.125 * b, 0.0, s])  # v doubles as lengths halve
    blank = np.zeros(0)
    prior = replace(model, length=length, amplitudes=amplitudes, lower=blank, weights=blank)
    lower = cholesky(prior.covariance(model.z, model.z) + np.diag(model.noise), lower=True)
    return replace(prior, lower=lower, weights=cho_solve((lower, True), model.y))


def _hyperparameters(z: Array, y: Array, variance: Array, known: bool, common: bool) -> tuple[Array, Array, float]:
    """Lengths (f,), amplitudes (a, b, q, s) and the factor of the noise's standard deviation."""
    uneven, without = _most_probable(z, y, variance, known, 0.0)
    even, within = _most_probable(z, y, variance, known, 1.0) if common else (uneven, without)
    theta = even if without - within > EVIDENCE else uneven
    amplitudes = np.exp(theta[-5:-1])
    amplitudes[2] *= theta is not uneven
    return np.exp(theta[:-5]), amplitudes, float(np.exp(theta[-1]))


def _most_probable(z: Array, y: Array, variance: Array, known: bool, common: float) -> tuple[Array, float]:
    """Logarithms of the hyperparameters, and minus the log of their posterior density.

    Args:
        z: (n, f) features.
        y: (n,) standardised scores.
        variance: (n,) of their noise.
        known: whether that is what it is, not a guess.
        common: 1 with common curvature, 0 without.
    """
    count = z.shape[1]
    # Log-normal priors, as (mean, standard deviation) of the logarithm: lengths, a, b, q, s, h.
    # Wide priors fit a trend through a handful of points and are then certain of it; these were chosen by how well the
    # posterior covers held-out points of the tuning problems (docs/search.md).
    # q at its median: from the centre to the middle of a face is worth a quarter of the scores' spread.
    # The trend starts at half the residual: a strong one is so unsure of itself in the cube's corners that the search
    # tried one after the other, all experts at full weight among them, before it looked between the experts.
    trend, even = np.log(0.5), np.log(0.36 * count)
    centre = np.array([*[np.log(0.6) + 0.5 * np.log(count)] * count, trend, trend, even, 0.0, 0.0])
    width = np.array([*[0.35] * count, 0.5, 0.5, 0.7, 0.5, 0.25 if known else 1.0])

    def cost(theta: Array) -> tuple[float, Array]:
        length = np.exp(theta[:count])
        a, b, q, s, h = np.exp(2 * theta[count:]) * np.array([1.0, 1.0, common, 1.0, 1.0])
        u = z / length
        product, bowl, residual, slope = _parts(u, u, 0.5 / length)
        matrix = CONSTANT + a * product + b * product**2 + q * bowl + s * residual
        matrix[np.diag_indices_from(matrix)] += h * variance + JITTER
        try:
            lower = cholesky(matrix, lower=True)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        inverse = cho_solve((lower, True), np.eye(len(y)))
        weights = inverse @ y
        sensitivity = inverse - np.outer(weights, weights)
        bend = sensitivity * (s * slope)
        by_length = -2 * ((bend.sum(axis=1) @ u**2) - (u * (bend @ u)).sum(axis=0))
        v = u - 0.5 / length
        by_length -= (v * ((sensitivity * (a + 2 * b * product)) @ v)).sum(axis=0)
        by_length -= 2 * q * ((sensitivity @ (v**2).sum(axis=1)) @ v**2)
        gradient = np.concatenate(
            [
                by_length,
                [
                    a * (sensitivity * product).sum(),
                    b * (sensitivity * product**2).sum(),
                    q * (sensitivity * bowl).sum(),
                    s * (sensitivity * residual).sum(),
                    h * (np.diag(sensitivity) @ variance),
                ],
            ]
        )
        off = (theta - centre) / width
        value = 0.5 * y @ weights + np.log(np.diag(lower)).sum() + 0.5 * off @ off
        return float(value), gradient + off / width

    found = minimize(cost, centre, jac=True, method="L-BFGS-B", options={"maxiter": 60}, bounds=_bounds(centre, width))
    return found.x, float(found.fun)


def _bounds(centre: Array, width: Array) -> list[tuple[float, float]]:
    return [(c - 4 * w, c + 4 * w) for c, w in zip(centre, width, strict=True)]


def paths(model: Model, extra: Array, count: int, rng: np.random.Generator) -> Paths:
    """Draws of f from its posterior, as functions.

    Each draw is fixed at the scored points and at `extra` (points under way, whose scores are unknown) by Matheron's
    rule; anywhere else it is the conditional mean given those, plus its own standard normal number times the
    conditional standard deviation.

    Args:
        model: fitted.
        extra: (p, f) more points where draws are fixed jointly.
        count: draws.
        rng: random numbers.
    """
    nodes = np.concatenate([model.z, extra])
    covariance = model.covariance(nodes, nodes)
    lower = cholesky(covariance + 1e-6 * np.trace(covariance) / len(nodes) * np.eye(len(nodes)), lower=True)
    white = rng.standard_normal((len(nodes), count))
    drawn = lower @ white
    known = len(model.z)
    error = np.sqrt(model.noise)[:, None] * rng.standard_normal((known, count))
    shift = cho_solve((model.lower, True), model.y[:, None] - drawn[:known] - error)
    # lower^-T lower^-1 (drawn + covariance shift): the first term is lower^-T white.
    weights = solve_triangular(lower, white, lower=True, trans="T")
    weights[:known] += shift
    values = drawn + covariance[:, :known] @ shift
    return Paths(model, nodes, lower, weights, values, rng.standard_normal(count))


@dataclass(frozen=True)
class Paths:
    """Draws of f: `values` (n + p, draws) at the nodes, callable anywhere; in the scores' own units."""

    model: Model
    nodes: Array
    lower: Array
    weights: Array
    standard: Array
    own: Array

    @property
    def values(self) -> Array:
        """At the scored points and the extra ones: (n + p, draws)."""
        return self.model.centre + self.model.scale * self.standard

    def at(self, z: Array, draws: int | None = None) -> Array:
        """At points (p, f): (p, draws)."""
        cross = self.model.covariance(z, self.nodes)
        solved = solve_triangular(self.lower, cross.T, lower=True)
        deviation = np.sqrt(np.maximum(self.model.variance(z) - (solved**2).sum(axis=0), 1e-12))
        found = cross @ self.weights[:, :draws] + deviation[:, None] * self.own[:draws]
        return np.asarray(self.model.centre + self.model.scale * found)

    def tangent(self, z: Array) -> tuple[Array, Callable[[Array], Array]]:
        """`at(z)` (p, draws), and from left (p, draws) the gradient of sum_s left[p, s] at(z)[p, s] by z[p]: (p, f)."""
        cross, slope = self.model.tangent(z, self.nodes)
        half = solve_triangular(self.lower, cross.T, lower=True)
        variance = np.maximum(self.model.variance(z) - (half**2).sum(axis=0), 1e-12)
        deviation = np.sqrt(variance)
        found = cross @ self.weights + deviation[:, None] * self.own

        def gradient(left: Array) -> Array:
            by_deviation = (left @ self.own) / (2 * deviation)  # d sqrt(v) = dv / (2 sqrt(v))
            solved = solve_triangular(self.lower, half, lower=True, trans="T")
            total = slope(left @ self.weights.T - 2 * by_deviation[:, None] * solved.T)
            a, b, q, _ = self.model.amplitudes**2
            v = (z - 0.5) / self.model.length
            norm = (v**2).sum(axis=1, keepdims=True)
            total += by_deviation[:, None] * (2 * a + 4 * (b + q) * norm) * v / self.model.length
            return np.asarray(self.model.scale * total)

        return np.asarray(self.model.centre + self.model.scale * found), gradient
