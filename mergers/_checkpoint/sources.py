"""The inputs of a merge: base and experts, opened once per process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .._adapter.factors import LowRankMerge
from .._adapter.fold import Folded, files, open_model
from .._errors import InputError
from .._vocabulary.policy import Vocabulary, plan_vocabulary
from .checkpoint import all_tied, compare
from .compare import refuse_duplicates
from .reader import Place, Reader

_OPEN_SETS = 8  # expert sets kept open per process: a run searches a few and scores each model alone once


@dataclass(frozen=True)
class Sources:
    """Base and experts by path; picklable, opened on first use in each process.

    Attributes:
        base: checkpoint directory that every expert started from.
        experts: checkpoint directories, or adapters (`BASE+ADAPTER`, or an adapter's directory), in merge order.
        vocabulary: `same` refuses models whose tokens differ; `base` fits embedding and head of each to the base's.
    """

    base: str
    experts: tuple[str, ...]
    vocabulary: str = "same"

    def open(self) -> Opened:
        """The opened inputs; opened again when a checkpoint's file was replaced.

        Raises:
            InputError: see `open_model` and `compare`.
        """
        return _opened(self, tuple(_stamp(reference) for reference in (self.base, *self.experts)))


@lru_cache(maxsize=_OPEN_SETS)
def _opened(sources: Sources, stamps: tuple[tuple[int, ...], ...]) -> Opened:
    return Opened(sources)


def _stamp(reference: str) -> tuple[tuple[int, int, int], ...]:
    """What changes when a file that `reference` is read from is replaced."""
    statuses = [file.stat() for file in files(reference) if file.is_file()]
    return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in statuses)


def readers_of(models: Sequence[str], *, base: int = 0, vocabulary: Vocabulary | None = None) -> tuple[Reader, ...]:
    """Readers of checkpoints that a blueprint names.

    Args:
        models: directories.
        base: index of the one whose buffers stand in for those that another lacks.
        vocabulary: of the output; None: every model's own.

    Raises:
        InputError: see `open_model`.
    """
    first = open_model(models[base])
    opened = {path: open_model(path, first) for path in dict.fromkeys(models)} | {models[base]: first}
    places = [None if vocabulary is None else Place(vocabulary, index) for index in range(len(models))]
    return tuple(
        Reader(opened[path], f"model {path}", first, place) for path, place in zip(models, places, strict=True)
    )


class Opened:
    """Opened and compared inputs of one expert set.

    Attributes:
        base: reader of the base.
        experts: readers, in merge order.
        notes: lines that say what was done to make them fit.
        notes_of_vocabulary: those about tokens; empty where every model keeps its own.
        low_rank: device -> factors of LoRA experts (`_low_rank`), None where they cannot be kept apart.
    """

    def __init__(self, sources: Sources) -> None:
        refuse_duplicates(sources.experts)
        paths = (sources.base, *sources.experts)
        base = open_model(sources.base)
        others = [open_model(reference, base) for reference in sources.experts]
        same = sources.vocabulary == "same"
        for path, other in zip(sources.experts, others, strict=True):
            compare(base, other, f"expert {path}", same_rows=same)
        plan = None if same else plan_vocabulary(sources.vocabulary, [one.path for one in (base, *others)])
        places = [None if plan is None else Place(plan, index) for index in range(len(paths))]
        folded = [note for one in others if isinstance(one, Folded) for note in one.notes]
        self.notes_of_vocabulary = () if plan is None else plan.notes
        self.notes = (*folded, *self.notes_of_vocabulary)
        self.low_rank: dict[str, LowRankMerge | None] = {}
        self.base = Reader(base, f"base {sources.base}", place=places[0])
        self.experts = tuple(
            Reader(other, f"expert {path}", base, place)
            for path, other, place in zip(sources.experts, others, places[1:], strict=True)
        )
        self._head = next((one.head for one in (base, *others) if one.head), "lm_head.weight")
        self._tied = all_tied((base, *others))
        self._agreed: dict[str, Tensor] = {}

    def source_name(self, name: str) -> str:
        """The tensor whose merge `name` is: a head that all inputs tie is merged as their embedding."""
        embedding = self.base.checkpoint.embedding
        if name == self._head and embedding is not None and self._tied:
            return embedding
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of tensor `name` of the base, a tied head included.

        Raises:
            InputError: the base has no such tensor.
        """
        source = self.source_name(name)
        if source not in self.base.checkpoint:
            raise InputError(f"tensor {name} of the live model is not in {self.base.name}; load this base")
        return self.base.checkpoint.shape(source)

    def agreed(self, name: str) -> Tensor:
        """Tensor `name` that does not hold floats: the base's, which every expert must share.

        Raises:
            InputError: an expert holds other values.
        """
        if name not in self._agreed:
            ours = self.base.stored(name)
            for expert in self.experts:
                if not torch.equal(ours, expert.stored(name)):
                    raise InputError(f"{expert.name} differs from the base in integer tensor {name}; make them equal")
            self._agreed[name] = ours
        return self._agreed[name]
