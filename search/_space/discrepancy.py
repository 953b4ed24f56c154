"""How far the experts went from the base, layer by layer, and where to cut the layers by it."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCK = 1 << 22  # entries in float64 at a time


def discrepancy(base: str, experts: Sequence[str]) -> tuple[float, ...]:
    """Relative size of the experts' differences from the base in each layer, first to last.

        d_l = sqrt(mean_i sum (x_i - b)^2 / sum b^2), sums over the entries of layer l

    Reads every weight once, block by block; no more than a block of it is in memory.

    Args:
        base: checkpoint directory.
        experts: checkpoint directories or adapters, as `mergers._checkpoint.sources.Sources` takes them.

    Raises:
        LayoutError: the base has no single stack of layers.
        InputError: a model that cannot be opened or merged with this base.
    """
    import torch

    from mergers._checkpoint.compare import is_buffer
    from mergers._checkpoint.sources import Sources
    from mergers._settings import layer_of

    from .groups import layers_of

    opened = Sources(base, tuple(experts)).open()
    held = opened.base.checkpoint
    prefix, layers = layers_of(held.names)
    moved, size = [0.0] * layers, [0.0] * layers
    for name in held.names:
        layer = layer_of(name)
        inside = name.startswith(f"{prefix}.") and layer is not None
        if not inside or not held.is_float(name) or is_buffer(name, held.shape(name)):
            continue
        assert layer is not None
        ours = opened.base.stored(name).flatten()
        theirs = [expert.stored(name).flatten() for expert in opened.experts]
        for start in range(0, len(ours), _BLOCK):
            block = ours[start : start + _BLOCK].to(torch.float64)
            size[layer] += float(block.square().sum())
            for other in theirs:
                difference = other[start : start + _BLOCK].to(torch.float64) - block
                moved[layer] += float(difference.square().sum()) / len(theirs)
    return tuple(math.sqrt(m / s) if s > 0 else 0.0 for m, s in zip(moved, size, strict=True))


def natural_cuts(sizes: Sequence[float], groups: int) -> tuple[int, ...]:
    """First layer of each of `groups` runs of layers of about one discrepancy.

    The runs with the least sum of squares of log d within them, found exactly by dynamic programming (Fisher 1958,
    doi:10.1080/01621459.1958.10501479, with the order given by depth, as in BAMBO, arXiv:2512.09972v1). The first of
    several equally good ones.

    Args:
        sizes: d of each layer, not negative.
        groups: at most as many as there are layers.
    """
    positive = [size for size in sizes if size > 0]
    floor = min(positive) / 10 if positive else 1.0  # a layer that no expert touched
    logs = [math.log(max(size, floor)) for size in sizes]
    count = len(logs)
    sums, squares = [0.0], [0.0]
    for value in logs:
        sums.append(sums[-1] + value)
        squares.append(squares[-1] + value * value)

    def spread(start: int, stop: int) -> float:
        total = sums[stop] - sums[start]
        return max(0.0, squares[stop] - squares[start] - total * total / (stop - start))

    best = [[0.0 if stop == 0 else math.inf for stop in range(count + 1)]]
    cut: list[list[int]] = [[0] * (count + 1)]
    for number in range(1, groups + 1):
        row, chosen = [math.inf] * (count + 1), [0] * (count + 1)
        for stop in range(number, count + 1):
            for start in range(number - 1, stop):
                cost = best[number - 1][start] + spread(start, stop)
                if cost < row[stop] - 1e-12:
                    row[stop], chosen[stop] = cost, start
        best.append(row)
        cut.append(chosen)
    cuts, stop = [], count
    for number in range(groups, 0, -1):
        stop = cut[number][stop]
        cuts.append(stop)
    return tuple(reversed(cuts))
