"""Made-up merge landscapes and recorded ones: success rates of items by language, and binomial scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from search.samplers import Problem
from search.samplers._features import features, to_sticks

from ._search_tasks import Array, Task

LANDSCAPES = Path(__file__).parent / "landscapes"
SMOOTHING = 0.01  # of logits; chosen by the error on held-out merges, which it changes little from 0.001 to 0.1


@dataclass(frozen=True)
class Rates:
    """Success rates over the cube: `rates(x)` is (n, evaluators, languages) in [0, 1]."""

    problem: Problem
    gains: Array  # (evaluators, languages, experts): what an expert's full dose adds to the logit
    start: Array  # (evaluators, languages): logit of the base
    depth: Array  # (experts, groups): how much of an expert sits in each layer group; rows sum to 1
    clash: Array  # (evaluators, experts, experts): what two doses together cost
    rough: Array  # (evaluators,): what uneven doses over the groups cost
    ceiling: Array  # (evaluators,): the best rate there is
    groups: int

    def __call__(self, x: Array) -> Array:
        """Rates at points of the cube."""
        weights = features(self.problem, x)
        experts = self.gains.shape[2]
        if not self.problem.sticks:
            weights = 1.2 * weights  # a box of weights from 0 to 1.2
        by_group = weights.reshape(len(x), experts, self.groups)
        dose = (by_group * self.depth).sum(axis=2)
        skill = 1.0 - np.exp(-2.5 * dose)  # the first half of an expert brings most of it
        logit = self.start + np.einsum("elk,nk->nel", self.gains, skill)
        cost = np.einsum("eij,ni,nj->ne", self.clash, dose, dose)
        cost = cost + self.rough * by_group.var(axis=2).sum(axis=1)[:, None]
        cost = cost + 6.0 * np.maximum(dose.sum(axis=1) - 1.3, 0.0)[:, None] ** 2  # too much of everything breaks
        return np.asarray(self.ceiling[:, None] / (1.0 + np.exp(-(logit - cost[:, :, None]))))


def synthetic(
    name: str,
    *,
    seed: int,
    experts: int,
    groups: int = 1,
    by: str,
    items: int = 60,
    languages: int = 6,
    objectives: tuple[tuple[int, str], ...] = ((0, "mean"), (1, "mean")),
    tuning: bool,
) -> Task:
    """A made-up merge.

    Args:
        name: of the task.
        seed: of the landscape.
        experts: number of them.
        groups: layer groups with weights of their own.
        by: `objective` (expert i is good at evaluator i mod 2; weights in a box) or `language` (expert i is good at
            language i; weights on the simplex).
        items: for each evaluator and language.
        languages: number of them.
        objectives: (evaluator, `mean` or `min` over languages).
        tuning: whether `auto` may be tuned on it.
    """
    rng = np.random.default_rng(seed)
    evaluators = 1 + max(index for index, _ in objectives)
    dimensions = experts - 1 if by == "language" else experts * groups
    sticks = ((0, dimensions),) if by == "language" else ()
    gains = rng.uniform(-0.6, 0.4, size=(evaluators, languages, experts))
    for expert in range(experts):
        if by == "language":
            gains[:, expert % languages, expert] += rng.uniform(2.5, 4.0, size=evaluators)
            gains[0, :, expert] += rng.uniform(0.0, 0.8)
        else:
            gains[expert % evaluators, :, expert] += rng.uniform(2.0, 4.0, size=languages)
            gains[(expert + 1) % evaluators, :, expert] -= rng.uniform(0.5, 1.5, size=languages)
    depth = rng.dirichlet(np.full(groups, 2.0), size=experts)
    clash = rng.uniform(0.0, 1.0, size=(evaluators, experts, experts))
    clash = clash @ clash.transpose(0, 2, 1) / experts
    rates = Rates(
        Problem(dimensions, (), sticks=sticks),
        gains,
        rng.uniform(-2.5, -1.0, size=(evaluators, languages)),
        depth,
        clash,
        rng.uniform(0.5, 3.0, size=evaluators),
        rng.uniform(0.9, 1.0, size=evaluators),
        groups,
    )
    alone = np.eye(experts)
    if by == "language":
        corners, uniform = to_sticks(alone), to_sticks(np.full((1, experts), 1.0 / experts))
        base = np.zeros((0, dimensions))
    else:
        corners = np.repeat(alone / 1.2, groups, axis=1)
        uniform = np.full((1, dimensions), 1.0 / experts / 1.2)
        base = np.zeros((1, dimensions))
    starts = np.concatenate([corners, base, uniform])
    return _task(name, "synthetic", tuning, rates, dimensions, sticks, starts, corners, items, objectives)


def _task(
    name: str,
    family: str,
    tuning: bool,
    rates: Callable[[Array], Array],
    dimensions: int,
    sticks: tuple[tuple[int, int], ...],
    starts: Array,
    corners: Array,
    items: int,
    objectives: tuple[tuple[int, str], ...],
) -> Task:
    def truth(x: Array) -> Array:
        return aggregate(rates(x), objectives)

    experts = truth(corners)
    count = rates(corners[:1]).shape[2]
    worst, spread = experts.min(axis=0), np.ptp(experts, axis=0)
    references = {"wide": worst - 0.1 * np.where(spread > 0, spread, 1.0), "near": worst}
    problem = Problem(
        dimensions,
        ("max",) * len(objectives),
        tuple(map(tuple, starts.tolist())),
        sticks=sticks,
        reference=tuple(references["wide"].tolist()),
        orders=tuple((1.0,) + (0.0,) * (count - 1) if kind == "min" else () for _, kind in objectives),
    )
    return Task(name, family, tuning, problem, truth, Binomial(rates, items, objectives), references)


def aggregate(rates: Array, objectives: tuple[tuple[int, str], ...]) -> Array:
    """(n, evaluators, languages) -> (n, objectives)."""
    return np.column_stack(
        [rates[:, index].mean(axis=1) if kind == "mean" else rates[:, index].min(axis=1) for index, kind in objectives]
    )


@dataclass(frozen=True)
class Binomial:
    """Scores from a limited number of items; the standard error is the usual estimate from the same items."""

    rates: Callable[[Array], Array]
    items: int
    objectives: tuple[tuple[int, str], ...]

    def __call__(self, x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        return self.scores(x, rng)[:2]

    def scores(self, x: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Values (m,), standard errors (m,), and [score, standard error] of each part of the minima: (p, 2)."""
        true = self.rates(x[None])[0]
        seen = rng.binomial(self.items, true) / self.items
        variance = seen * (1.0 - seen) / self.items
        values, errors, parts = [], [], []
        for index, kind in self.objectives:
            if kind == "mean":
                values.append(seen[index].mean())
                errors.append(np.sqrt(variance[index].sum()) / len(seen[index]))
            else:
                lowest = int(seen[index].argmin())
                values.append(seen[index][lowest])
                errors.append(np.sqrt(variance[index][lowest]))
                parts.append(np.column_stack([seen[index], np.sqrt(variance[index])]))
        return np.array(values), np.array(errors), np.concatenate([np.zeros((0, 2)), *parts])


def binomial(task: Task) -> Binomial:
    """How the scores of a made-up or recorded task are drawn."""
    assert isinstance(task.measure, Binomial), f"{task.name} has no items"
    return task.measure


@dataclass(frozen=True)
class Surrogate:
    """Success rates learned from recorded merges: thin-plate splines on logits.

    Not a process like the one inside `auto`: that would give it a landscape after its own model.
    """

    problem: Problem
    spline: RBFInterpolator
    shape: tuple[int, int]  # (evaluators, languages)

    def __call__(self, x: Array) -> Array:
        """Rates at points of the cube: (n, evaluators, languages)."""
        logits = self.spline(features(self.problem, x)).reshape(len(x), *self.shape)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def surrogate(x: Array, rates: Array, items: NDArray[np.int64], sticks: tuple[tuple[int, int], ...]) -> Surrogate:
    """Fit the success rates of recorded merges.

    Args:
        x: (n, d) points of the cube.
        rates: (n, evaluators, languages) shares of items solved.
        items: (evaluators, languages) how many items each share is of.
        sticks: as in `Problem`.
    """
    problem = Problem(x.shape[1], (), sticks=sticks)
    smooth = (rates * items + 0.5) / (items + 1.0)  # finite logits
    logit = np.log(smooth / (1.0 - smooth)).reshape(len(x), -1)
    spline = RBFInterpolator(features(problem, x), logit, kernel="thin_plate_spline", smoothing=SMOOTHING, degree=1)
    return Surrogate(problem, spline, (rates.shape[1], rates.shape[2]))


def held_out_errors(
    x: Array, rates: Array, items: NDArray[np.int64], sticks: tuple[tuple[int, int], ...]
) -> dict[str, list[float]]:
    """How well a surrogate predicts a tenth of the recorded merges that it was not fitted to, by evaluator.

    `error`: root mean square of predicted minus measured rates, mean over languages; `binomial`: what chance alone
    would make of it were the items drawn anew for each merge. They are not: the error may be smaller.
    """
    out = np.random.default_rng(0).random(len(x)) < 0.1
    predicted = surrogate(x[~out], rates[~out], items, sticks)(x[out])
    error = np.sqrt(((predicted - rates[out]).mean(axis=2) ** 2).mean(axis=0))
    chance = np.sqrt((predicted * (1.0 - predicted) / items).sum(axis=2).mean(axis=0)) / rates.shape[2]
    return {"error": np.round(error, 4).tolist(), "binomial": np.round(chance, 4).tolist()}


def recorded(folder: Path = LANDSCAPES) -> tuple[Task, ...]:
    """Tasks of the landscapes recorded in `folder/*.npz`, by name.

    Each file holds

    * `x` (n, d): points of the unit cube;
    * `rates` (n, evaluators, languages): shares of items solved there, of `items` (evaluators, languages) items each;
    * `search_items`: how many items a search would score for each evaluator and language;
    * `starts` (s, d): points that a search tries first, the first `experts` of them one expert alone;
    * `sticks` (g, 2): first and last + 1 dimension of each simplex;
    * `objectives`: JSON, [[evaluator, "mean" or "min" over languages], ...];
    * `tuning`: whether `auto` may be tuned on it;
    * `evaluators`, `languages`: their names.
    """
    return tuple(_recorded(path) for path in sorted(folder.glob("*.npz")))


@lru_cache
def _recorded(path: Path) -> Task:
    with np.load(path, allow_pickle=False) as file:
        x, rates = file["x"].astype(np.float64), file["rates"].astype(np.float64)
        sticks = tuple((int(first), int(stop)) for first, stop in file["sticks"])
        starts = file["starts"].astype(np.float64)
        objectives = tuple((int(index), str(kind)) for index, kind in json.loads(str(file["objectives"])))
        experts, items = int(file["experts"]), int(file["search_items"])
        learned = surrogate(x, rates, file["items"].astype(np.int64), sticks)
        tuning = bool(file["tuning"])
    return _task(
        path.stem, "recorded", tuning, learned, x.shape[1], sticks, starts, starts[:experts], items, objectives
    )
