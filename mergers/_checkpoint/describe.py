"""One model in words and numbers, from its headers and small files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._errors import InputError
from .._vocabulary.tokenizer import read_tokens
from .compare import is_tied
from .tensors import Checkpoint


@dataclass(frozen=True)
class Described:
    """One model, as far as it could be read.

    Attributes:
        name: as given.
        remote: whether it lies on the hub only.
        architecture: from `config.json`; empty if that does not say.
        layers: number of repeated blocks.
        hidden: width of the embedding; None if there is none.
        types: (type, parameters of that type), most first.
        parameters: elements of all tensors.
        size: bytes of all tensors.
        rows: of the embedding; None if there is none.
        tokens: of the tokenizer; None if `tokenizer.json` does not tell.
        tied: whether the output head is the embedding; None if headers do not tell.
        notes: what is odd, but no problem.
        problems: what forbids merging it.
    """

    name: str
    remote: bool = False
    architecture: str = ""
    layers: int = 0
    hidden: int | None = None
    types: tuple[tuple[str, int], ...] = ()
    parameters: int = 0
    size: int = 0
    rows: int | None = None
    tokens: int | None = None
    tied: bool | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def main_type(self) -> str:
        """The floating-point type of most parameters; float32 where there is none to write."""
        return next((name for name, _ in self.types if name in ("float32", "bfloat16", "float16")), "float32")

    def with_notes(self, notes: tuple[str, ...]) -> Described:
        """The same with more notes."""
        return replace(self, notes=self.notes + notes)

    def lines(self) -> tuple[str, ...]:
        """The same for people; problems left out."""
        if not self.parameters:
            return (f"{self.name}: not readable",)
        types = " and ".join(name for name, _ in self.types)
        head = {True: "tied head", False: "head of its own", None: "head tied or not: only the weights tell"}[self.tied]
        vocabulary = f"{self.rows or 'no'} rows" + (f" for {self.tokens} tokens" if self.tokens is not None else "")
        return (
            f"{self.name}{' (on the hub)' if self.remote else ''}: {self.architecture or 'unnamed architecture'}, "
            f"{_parameters(self.parameters)} parameters in {types}, {self.size / 1e9:.2f} GB",
            f"  {self.layers} layers, width {self.hidden or 'unknown'}, {vocabulary}, {head}",
            *(f"  note: {note}" for note in self.notes),
        )


def describe(name: str, checkpoint: Checkpoint, folder: Path, *, remote: bool = False) -> Described:
    """Describe a model.

    Args:
        name: how it is called.
        checkpoint: its tensors.
        folder: where its small files lie.
        remote: whether the tensors cannot be read.
    """
    config = _config(folder)
    shapes = {tensor: math.prod(checkpoint.shape(tensor)) for tensor in checkpoint.names}
    types: dict[str, int] = {}
    for tensor, count in shapes.items():
        types[checkpoint.dtype(tensor)] = types.get(checkpoint.dtype(tensor), 0) + count
    embedding = checkpoint.shape(checkpoint.embedding) if checkpoint.embedding else None
    problems, notes = [], []
    if config is None:
        problems.append(f"{name} has no readable config.json; save the model with save_pretrained")
    try:
        known = read_tokens(folder)
        tokens = None if known is None else len(known.ids)
    except InputError as error:
        tokens = None
        notes.append(str(error).replace(str(folder), name))
    if embedding is not None and tokens is not None and tokens != embedding[0]:
        what = "padding" if tokens < embedding[0] else "tokens without a row"
        notes.append(f"{abs(embedding[0] - tokens)} {what}: {embedding[0]} rows for {tokens} tokens")
    if remote and checkpoint.head is not None:
        said = (config or {}).get("tie_word_embeddings")
        tied = said if isinstance(said, bool) else None
    else:
        tied = is_tied(checkpoint)
    return Described(
        name,
        remote,
        _architecture(config or {}),
        checkpoint.layers,
        embedding[1] if embedding and len(embedding) > 1 else None,
        tuple(sorted(types.items(), key=lambda item: -item[1])),
        sum(shapes.values()),
        sum(checkpoint.size(tensor) for tensor in checkpoint.names),
        embedding[0] if embedding else None,
        tokens,
        tied,
        tuple(notes),
        tuple(problems),
    )


def _config(folder: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else str(config.get("model_type", ""))


def _parameters(count: int) -> str:
    for size, unit in ((10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
