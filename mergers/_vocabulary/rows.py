"""Rows of embeddings and heads of several models, brought to one numbering.

A row is each model's own; a model that has none takes the base's, else that of the only model that has one,
else the mean of those that have one; a row that no model has is zeros (mergekit 0.1.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._checkpoint.tensors import Checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ZEROS, MEAN, OWN_MEAN = -1, -2, -3
"""Donors that are no model: zeros, the mean over the owners, the mean over the model's own rows of tokens."""

_STEP = 1 << 14  # rows summed at a time


@dataclass(frozen=True)
class RowMap:
    """Which row of which model goes where.

    Attributes:
        models: whose embeddings and heads are mapped.
        sources: per model, for each output row the model's own row, or -1.
        donors: for each output row, who fills it where a model has none: a model's index or a rule.
        tokens: output rows `[0, tokens)` are of tokens (for `OWN_MEAN`).
    """

    models: tuple[Checkpoint, ...]
    sources: tuple[NDArray[np.int64], ...]
    donors: NDArray[np.int64]
    tokens: int

    def block(self, model: int, name: str, start: int, stop: int, stored: Tensor | None = None) -> Tensor:
        """Output rows `[start, stop)` of one model's tensor.

        Args:
            model: its index.
            name: of the tensor, with the vocabulary along dimension 0.
            start: first row.
            stop: row after the last.
            stored: the model's tensor, read from its file if None.

        Returns:
            float32 `(stop - start, ...)`.
        """
        import torch

        mine = self._stored(model, name) if stored is None else stored
        own, donors = self.sources[model][start:stop], self.donors[start:stop]
        out = torch.zeros((stop - start, *mine.shape[1:]), dtype=torch.float32)
        _copy(out, np.flatnonzero(own >= 0), mine, own)
        for donor in np.unique(donors[own < 0]).tolist():
            places = np.flatnonzero((own < 0) & (donors == donor))
            if donor >= 0:
                _copy(out, places, self._stored(donor, name), self.sources[donor][start:stop])
            elif donor == MEAN:
                out[torch.from_numpy(places)] = self._mean(name, start + places)
            elif donor == OWN_MEAN:
                out[torch.from_numpy(places)] = self._own_mean(model, name, mine)
        return out

    def _mean(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """Mean over the models that have them, of each of the output's `rows`."""
        import torch

        total: Tensor | None = None
        count = np.zeros(len(rows), dtype=np.float32)
        for model, sources in enumerate(self.sources):
            stored, own = self._stored(model, name), sources[rows]
            if total is None:
                total = torch.zeros((len(rows), *stored.shape[1:]), dtype=torch.float32)
            held = np.flatnonzero(own >= 0)
            total[torch.from_numpy(held)] += stored[torch.from_numpy(own[held])].float()
            count[held] += 1
        assert total is not None, "a mean over no models"
        return total / torch.from_numpy(count).view(-1, *[1] * (total.dim() - 1))

    def _own_mean(self, model: int, name: str, stored: Tensor) -> Tensor:
        import torch

        starts = range(0, self.tokens, _STEP)
        blocks = (self.block(model, name, at, min(at + _STEP, self.tokens), stored) for at in starts)
        total = torch.stack([block.sum(0, dtype=torch.float64) for block in blocks]).sum(0)
        return (total / self.tokens).float()

    def _stored(self, model: int, name: str) -> Tensor:
        """A model's tensor as stored; the embedding for a head that it ties."""
        checkpoint = self.models[model]
        if name not in checkpoint:
            assert checkpoint.embedding is not None, f"{checkpoint.path} lacks {name}"
            name = checkpoint.embedding
        return checkpoint.read(name)


def donors(sources: Sequence[NDArray[np.int64]], base: int | None) -> NDArray[np.int64]:
    """Who fills each row where a model has none (see the module)."""
    present = np.stack([own >= 0 for own in sources])
    count = present.sum(0)
    several = np.full(len(count), MEAN, dtype=np.int64)
    if base is not None:
        several[present[base]] = base
    return np.where(count == 0, ZEROS, np.where(count == 1, present.argmax(0), several)).astype(np.int64)


def sources(tokens: Mapping[str, int], rows: int, kept: int, own: Mapping[str, int], count: int) -> NDArray[np.int64]:
    """Which row of one model each output row is.

    Args:
        tokens: token -> row of the output.
        rows: of the output.
        kept: output rows `[0, kept)` that are no token's are padding taken over; later ones are new.
        own: token -> row of the model.
        count: rows of the model.

    Returns:
        `(rows,)`: the model's row, or -1. Padding stays in its row where that row is padding in the model too.
    """
    out = np.full(rows, -1, dtype=np.int64)
    padding = np.zeros(max(rows, count), dtype=bool)
    padding[: min(kept, count)] = True
    for numbers in (tokens, own):
        padding[np.fromiter(numbers.values(), dtype=np.int64, count=len(numbers))] = False
    places = np.flatnonzero(padding)
    out[places] = places
    mine = np.fromiter((own.get(token, -1) for token in tokens), dtype=np.int64, count=len(tokens))
    out[np.fromiter(tokens.values(), dtype=np.int64, count=len(tokens))] = mine
    return out


def _copy(out: Tensor, places: NDArray[np.int64], stored: Tensor, own: NDArray[np.int64]) -> None:
    import torch

    if len(places):
        out[torch.from_numpy(places)] = stored[torch.from_numpy(own[places])].float()
