"""Group DRO over domains, as Re-Mix does it.

Hejna et al. 2024, arXiv 2408.14037, and their public code (jhejna/remix, scripts/train_remix.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Domains:
    """Weights of D domains after some updates; sums are 1.

    Attributes:
        prior: p0.
        alpha: weights of the last step.
        mean: running mean of alpha over the steps: the result.
        updates: steps so far.
    """

    prior: tuple[float, ...]
    alpha: tuple[float, ...]
    mean: tuple[float, ...]
    updates: int = 0


def start(prior: Sequence[float]) -> Domains:
    """No step taken: everything is the prior."""
    share = np.asarray(prior, dtype=np.float64)
    first = tuple((share / share.sum()).tolist())
    return Domains(first, first, first)


def updated(domains: Domains, clipped: Sequence[float], eta: float, smoothing: float) -> Domains:
    """One step: ``alpha <- alpha exp(eta l)``, normalised, then ``(1 - c) alpha + c p0``; and the running mean.

    Args:
        domains: before.
        clipped: (D,) l: mean over a domain's samples of max(excess, 0), those that are 0 left out; 0 without samples.
        eta: step size.
        smoothing: c, the share of the prior.
    """
    exponents = eta * np.asarray(clipped, dtype=np.float64)
    # The largest exponent is taken out, which the normalisation undoes: a diverging proxy must not overflow here.
    alpha = np.asarray(domains.alpha) * np.exp(exponents - exponents.max())
    alpha = (1 - smoothing) * alpha / alpha.sum() + smoothing * np.asarray(domains.prior)
    updates = domains.updates + 1
    mean = np.asarray(domains.mean)
    mean = mean + (alpha - mean) / updates
    return replace(domains, alpha=tuple(alpha.tolist()), mean=tuple(mean.tolist()), updates=updates)


def sums(excess: Array, domain: NDArray[np.int64], count: int) -> Array:
    """(4, D) sums over samples, to be added up over workers: max(excess, 0) and how many are not 0; excess, the same.

    Args:
        excess: (samples,) loss of the proxy less that of the reference.
        domain: (samples,) index of each.
        count: D.
    """
    clipped = np.maximum(excess, 0)
    rows = (clipped, clipped != 0, excess, excess != 0)
    return np.stack([np.bincount(domain, weights=row.astype(np.float64), minlength=count) for row in rows])


def means(total: Array) -> tuple[Array, Array]:
    """From `sums`: (D,) means of the clipped and of the plain excess over entries that are not 0; 0 without any."""
    return total[0] / np.maximum(total[1], 1), total[2] / np.maximum(total[3], 1)


def sample_weights(domains: Domains, total: Array, domain: NDArray[np.int64]) -> Array:
    """(samples,) factors w, so that sum(w * excess) over all workers is sum over domains of alpha * mean excess."""
    return np.asarray((np.asarray(domains.alpha) / np.maximum(total[3], 1))[domain])
