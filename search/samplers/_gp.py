"""One Gaussian process: a quadratic trend, a smooth residual, and known noise.

    f(z) ~ GP(0, c^2 + a^2 v.v' + b^2 (v.v')^2 + s^2 k(|z - z'| / l)),   v = (z - 1/2) / l,   k = Matern 5/2
    y    = f(z) + e,   e ~ N(0, h^2 stderr^2)

Scores of merges are close to quadratic in the coefficients (MAP, arXiv 2406.07529, from a Taylor expansion), so the
trend carries most of what few scores can say; as part of the kernel its coefficients are integrated out with shrinkage
instead of fitted. The length scales l (one for each feature, shared by trend and residual) have a prior whose median
grows with the square root of the number of features (Hvarfner, Hellsten & Nardi 2024). h is the only freedom that the
noise has: its prior sits at 1, and data move it where standard errors are wrong for the sampler's purpose (items shared
by all points make neighbours agree better than their standard errors say).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from ._types import Array

JITTER = 1e-6  # of the scores' variance
GUESS = 0.1  # standard error where none is known, as a share of the scores' spread
CONSTANT = 2.0  # variance of the mean, in units of the scores' variance
ROOT5 = np.sqrt(5.0)
FIT_POINTS = 120  # hyperparameters change little beyond; the posterior uses all points


@dataclass(frozen=True)
class Model:
    """A fitted process. Scores are kept standardised: value = centre + scale * f.

    Attributes:
        z: (n, f) features of the scored points.
        y: (n,) standardised scores.
        noise: (n,) variance of `y`.
        length: (f,) length scales.
        amplitudes: (a, b, s) of linear trend, quadratic trend and residual.
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
        product, residual, _ = _parts(first / self.length, second / self.length, 0.5 / self.length)
        a, b, s = self.amplitudes**2
        return np.asarray(CONSTANT + a * product + b * product**2 + s * residual)

    def variance(self, z: Array) -> Array:
        """Prior variance of f: (p,)."""
        norm = (((z - 0.5) / self.length) ** 2).sum(axis=1)
        a, b, s = self.amplitudes**2
        return np.asarray(CONSTANT + a * norm + b * norm**2 + s)

    def slope(self, z: Array, others: Array, left: Array) -> Array:
        """Gradient of sum_q left[p, q] covariance(z[p], others[q]) with respect to z[p]: (p, f)."""
        u, w = z / self.length, others / self.length
        product, _, slope = _parts(u, w, 0.5 / self.length)
        a, b, s = self.amplitudes**2
        trend = left * (a + 2 * b * product)
        bend = left * (2 * s * slope)  # d/du of k(r^2) is k' 2 (u - w)
        found = trend @ (w - 0.5 / self.length) + bend.sum(axis=1)[:, None] * u - bend @ w
        return np.asarray(found / self.length)

    def mean(self, z: Array) -> Array:
        """Posterior mean of f, standardised: (p,)."""
        return np.asarray(self.covariance(z, self.z) @ self.weights)


def _parts(u: Array, w: Array, shift: Array) -> tuple[Array, Array, Array]:
    """Scaled features -> (v.v', residual kernel, its derivative by the squared distance), each (p, q)."""
    gram = u @ w.T
    squared = np.maximum((u**2).sum(axis=1)[:, None] + (w**2).sum(axis=1)[None] - 2 * gram, 0.0)
    product = (u - shift) @ (w - shift).T
    distance = ROOT5 * np.sqrt(squared)
    decay = np.exp(-distance)
    return product, (1 + distance + distance**2 / 3) * decay, -(5 / 6) * (1 + distance) * decay


def fit(z: Array, values: Array, stderr: Array | None) -> Model:
    """The process most probable after the scores (maximum a posteriori).

    Args:
        z: (n, f) features.
        values: (n,) scores.
        stderr: (n,) their standard errors; None: unknown, one for all points is fitted.
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
    length, amplitudes, noise_scale = _hyperparameters(z[chosen], y[chosen], variance[chosen], known)
    noise = noise_scale**2 * variance + JITTER
    blank = np.zeros(0)
    prior = Model(z, y, noise, length, amplitudes, centre, scale, blank, blank)
    lower = cholesky(prior.covariance(z, z) + np.diag(noise), lower=True)
    return Model(z, y, noise, length, amplitudes, centre, scale, lower, cho_solve((lower, True), y))


def _hyperparameters(z: Array, y: Array, variance: Array, known: bool) -> tuple[Array, Array, float]:
    count = z.shape[1]
    # Log-normal priors, as (mean, standard deviation) of the logarithm: lengths, a, b, s, h.
    # Wide priors fit a trend through a handful of points and are then certain of it; these were chosen by how well the
    # posterior covers held-out points of the tuning problems (docs/search.md).
    centre = np.array([*[np.log(0.6) + 0.5 * np.log(count)] * count, 0.0, 0.0, 0.0, 0.0])
    width = np.array([*[0.35] * count, 0.5, 0.5, 0.5, 0.25 if known else 1.0])

    def cost(theta: Array) -> tuple[float, Array]:
        length = np.exp(theta[:count])
        a, b, s, h = np.exp(2 * theta[count:])
        u = z / length
        product, residual, slope = _parts(u, u, 0.5 / length)
        matrix = CONSTANT + a * product + b * product**2 + s * residual
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
        gradient = np.concatenate(
            [
                by_length,
                [
                    a * (sensitivity * product).sum(),
                    b * (sensitivity * product**2).sum(),
                    s * (sensitivity * residual).sum(),
                    h * (np.diag(sensitivity) @ variance),
                ],
            ]
        )
        off = (theta - centre) / width
        value = 0.5 * y @ weights + np.log(np.diag(lower)).sum() + 0.5 * off @ off
        return float(value), gradient + off / width

    found = minimize(cost, centre, jac=True, method="L-BFGS-B", options={"maxiter": 60}, bounds=_bounds(centre, width))
    return np.exp(found.x[:count]), np.exp(found.x[count : count + 3]), float(np.exp(found.x[-1]))


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

    def gradient(self, z: Array, left: Array) -> Array:
        """Of sum_s left[p, s] at(z)[p, s] with respect to z[p]: (p, f)."""
        cross = self.model.covariance(z, self.nodes)
        half = solve_triangular(self.lower, cross.T, lower=True)
        variance = np.maximum(self.model.variance(z) - (half**2).sum(axis=0), 1e-12)
        by_deviation = (left @ self.own) / (2 * np.sqrt(variance))  # d sqrt(v) = dv / (2 sqrt(v))
        solved = solve_triangular(self.lower, half, lower=True, trans="T")
        through = left @ self.weights.T - 2 * by_deviation[:, None] * solved.T
        found = self.model.slope(z, self.nodes, through)
        a, b, _ = self.model.amplitudes**2
        v = (z - 0.5) / self.model.length
        norm = (v**2).sum(axis=1, keepdims=True)
        found += by_deviation[:, None] * (2 * a + 4 * b * norm) * v / self.model.length
        return np.asarray(self.model.scale * found)
