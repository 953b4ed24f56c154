"""A whole merge written out tensor by tensor, every setting resolved to a number. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ._settings import Scalar


@dataclass(frozen=True)
class Part:
    """One tensor of the output.

    Attributes:
        name: in the output.
        method: of its merge.
        params: (parameter, value) pairs; a tuple holds one value per input.
        seed: of random masks; they belong to the base's tensor, so a layer taken twice has the same ones; without base
            to `name`.
        inputs: (index of a model, tensor's name in it) of each expert, in merge order.
        base: the same of the base; None where the method has none.
    """

    name: str
    method: str
    params: tuple[tuple[str, Scalar | tuple[Scalar, ...]], ...]
    seed: int
    inputs: tuple[tuple[int, str], ...]
    base: tuple[int, str] | None


@dataclass(frozen=True)
class Blueprint:
    """An output checkpoint.

    Attributes:
        models: checkpoint directories; indices in parts count from 0 here.
        parts: in the order of the output's tensors.
        dtype: of the floating-point tensors written.
        config: index of the model that configuration, tokenizer and other files come from.
        layers: number of layers of the output where it differs from that model's, else None.
        vocabulary: `same`, `base`, `union`, or the path of the model whose tokenizer is taken.
        notes: lines that say what was done beside merging.
    """

    models: tuple[str, ...]
    parts: tuple[Part, ...]
    dtype: str
    config: int = 0
    layers: int | None = None
    vocabulary: str = "same"
    notes: tuple[str, ...] = ()
