"""Problems of the search benchmark: what is searched, what is true, and how a score differs from the truth.

Every objective is maximised (a loss is negated), so that one convention holds in results and plots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.samplers import Problem

Array = NDArray[np.float64]
Noise = Callable[[Array, np.random.Generator], tuple[Array, Array]]


@dataclass(frozen=True)
class Task:
    """One problem.

    Attributes:
        name: unique.
        family: `analytic`, `synthetic` (made-up merges) or `recorded` (surrogates of real ones).
        tuning: whether `auto` may be tuned on it; the others are looked at for the final figures alone.
        problem: as samplers see it.
        truth: (n, d) in the unit cube -> (n, m), noise-free.
        measure: one point (d,) and random numbers -> (values (m,), standard errors (m,)).
        references: name -> (m,) point that hypervolume counts from: `wide` (a tenth of the range beyond the worst of
            the experts, or of the front) and `near` (the worst of the experts, or of the front itself).
        front: points (k, m) of the true front, dense enough for its hypervolume; None: found by search.
        noisy: whether scores differ from the truth.
    """

    name: str
    family: str
    tuning: bool
    problem: Problem
    truth: Callable[[Array], Array]
    measure: Noise
    references: dict[str, Array]
    front: Array | None = None
    noisy: bool = True


def volume(values: Array, reference: Array) -> float:
    """Hypervolume of points to be maximised."""
    import moocore

    return float(moocore.hypervolume(values, ref=reference, maximise=True)) if len(values) else 0.0


def gaussian(truth: Callable[[Array], Array], sigma: Array) -> Noise:
    """Scores with known independent normal noise."""

    def measure(x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        return truth(x[None])[0] + rng.normal(size=len(sigma)) * sigma, sigma.copy()

    return measure


def _analytic(
    name: str, tuning: bool, noise: float, problem: Problem, truth: Callable[[Array], Array], front: Array
) -> Task:
    spread = np.ptp(front, axis=0)
    references = {"wide": front.min(axis=0) - 0.1 * spread, "near": front.min(axis=0)}
    full = f"{name}-noise{100 * noise:g}"
    problem = Problem(
        problem.dimensions, problem.directions, problem.starts, problem.sticks, reference=tuple(references["wide"])
    )
    return Task(full, "analytic", tuning, problem, truth, gaussian(truth, noise * spread), references, front, noise > 0)


def _max(count: int) -> tuple[str, ...]:
    return ("max",) * count


def zdt(kind: int, dimensions: int, noise: float, *, tuning: bool) -> Task:
    """ZDT1 to ZDT3 (Zitzler, Deb & Thiele 2000): two objectives; only the first number moves along the front."""

    def second(first: Array, g: Array) -> Array:
        if kind == 2:
            return np.asarray(g * (1.0 - (first / g) ** 2))
        wave = (first / g) * np.sin(10 * np.pi * first) if kind == 3 else 0.0
        return np.asarray(g * (1.0 - np.sqrt(first / g) - wave))

    def truth(x: Array) -> Array:
        g = 1.0 + 9.0 * x[:, 1:].mean(axis=1)
        return -np.column_stack([x[:, 0], second(x[:, 0], g)])

    along = np.linspace(0.0, 1.0, 2001)
    front = _undominated(-np.column_stack([along, second(along, np.ones_like(along))]))
    return _analytic(f"zdt{kind}-d{dimensions}", tuning, noise, Problem(dimensions, _max(2)), truth, front)


def dtlz2(objectives: int, dimensions: int, noise: float, *, tuning: bool) -> Task:
    """DTLZ2 (Deb et al. 2002): the front is the unit sphere's positive part."""

    def truth(x: Array) -> Array:
        g = ((x[:, objectives - 1 :] - 0.5) ** 2).sum(axis=1)
        angles = x[:, : objectives - 1] * np.pi / 2
        found = []
        for index in range(objectives):
            value = (1.0 + g) * np.cos(angles[:, : objectives - 1 - index]).prod(axis=1)
            found.append(value * (np.sin(angles[:, objectives - 1 - index]) if index else 1.0))
        return -np.column_stack(found)

    steps = {2: 2001, 3: 60, 4: 18}[objectives]
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, steps)] * (objectives - 1), indexing="ij"), -1)
    flat = grid.reshape(-1, objectives - 1)
    front = truth(np.column_stack([flat, np.full((len(flat), 1), 0.5)]))
    name = f"dtlz2-m{objectives}-d{dimensions}"
    return _analytic(name, tuning, noise, Problem(dimensions, _max(objectives)), truth, front)


def bowls(objectives: int, dimensions: int, noise: float, *, seed: int, tuning: bool) -> Task:
    """Each objective is minus the squared distance to its own centre, stretched alike: the front is their hull."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.15, 0.85, size=(objectives, dimensions))
    turn, _ = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))
    stretch = turn * np.exp(rng.uniform(-0.7, 0.7, size=dimensions))

    def truth(x: Array) -> Array:
        gap = (x[:, None] - centres[None]) @ stretch
        return np.asarray(-(gap**2).sum(axis=2))

    shares = _simplex_grid(objectives, {2: 2000, 3: 70, 4: 22}[objectives])
    front = truth(shares @ centres)
    name = f"bowls-m{objectives}-d{dimensions}"
    return _analytic(name, tuning, noise, Problem(dimensions, _max(objectives)), truth, front)


def simplex_bowls(objectives: int, experts: int, noise: float, *, tuning: bool) -> Task:
    """Weights on a simplex; objective i wants expert i alone, the other experts help nobody."""
    from search.samplers._features import from_sticks, to_sticks

    def truth(x: Array) -> Array:
        weights = from_sticks(x)
        return np.asarray(-((weights[:, None] - np.eye(experts)[None, :objectives]) ** 2).sum(axis=2))

    shares = _simplex_grid(objectives, {2: 2000, 3: 70, 4: 22}[objectives])
    padded = np.column_stack([shares, np.zeros((len(shares), experts - objectives))])
    front = truth(to_sticks(padded))
    starts = to_sticks(np.concatenate([np.eye(experts), np.full((1, experts), 1 / experts)]))
    problem = Problem(experts - 1, _max(objectives), tuple(map(tuple, starts.tolist())), sticks=((0, experts - 1),))
    return _analytic(f"simplex-m{objectives}-k{experts}", tuning, noise, problem, truth, front)


def _simplex_grid(parts: int, steps: int) -> Array:
    """All vectors of multiples of 1 / steps that sum to 1."""
    axes = np.meshgrid(*[np.arange(steps + 1)] * (parts - 1), indexing="ij")
    flat = np.stack(axes, -1).reshape(-1, parts - 1)
    flat = flat[flat.sum(axis=1) <= steps]
    return np.asarray(np.column_stack([flat, steps - flat.sum(axis=1)]) / steps)


def _undominated(values: Array) -> Array:
    import moocore

    return np.asarray(values[moocore.is_nondominated(values, maximise=True)])
