"""An adapter folded into its base when it is read: base + adapter seen as a checkpoint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .._checkpoint.checkpoint import INDEX, SINGLE, Checkpoint, open_checkpoint
from .._checkpoint.hub import resolve
from .._checkpoint.safetensors import Entry, Slot
from .._errors import InputError
from .adapter import Adapter, Change, LowRank
from .config import CONFIG
from .open import WEIGHTS, is_adapter, open_adapter

if TYPE_CHECKING:
    from torch import Tensor

_HEAD = "lm_head.weight"


class Folded(Checkpoint):
    """Tensors of `base` with the changes of `adapter`; what is changed is float32, never rounded in between.

    Tensors that the adapter leaves alone are the base's own mapped views; a changed one is computed anew by each
    `read`. An adapter may untie a head: it changes the embedding, and not the head that the base ties to it, or the
    other way round. `head` is then a tensor of its own here, as it is in the running PEFT model (and is not in what
    PEFT's `merge_and_unload` leaves), so that `compare` can refuse it.

    Attributes:
        path: of the base: config and tokenizer come from there.
        adapter: what is folded in.
        changes: what it does to each tensor of this checkpoint, a tied head's own included.
        notes: what a person should know, one line each.
    """

    def __init__(self, base: Checkpoint, adapter: Adapter) -> None:
        self.base = base
        self.adapter = adapter
        self.notes = _notes(base, adapter)
        self.changes = _changes_of(base, adapter)
        names = dict.fromkeys((*base.names, *self.changes))
        # Entries without bytes: shapes and types are this object's, the bytes are read below.
        super().__init__(base.path, {name: self._entry(name) for name in names})

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:  # type: ignore[override]  # rebuilt from other arguments
        return Folded, (self.base, self.adapter)

    def _entry(self, name: str) -> Entry:
        source = _source(self.base, name)
        dtype = "float32" if name in self.changes else self.base.dtype(source)
        return Entry(dtype, self.base.shape(source), self.base.path, 0, 0)

    def read(self, name: str) -> Tensor:
        """Tensor `name` on the CPU: the base's own view, or base and change in float32 as a new tensor."""
        stored = self.base.read(_source(self.base, name))
        change = self.changes.get(name)
        if change is None:
            return stored
        whole = replaced(stored, change)
        return whole if change.low_rank is None else _add(whole, change.low_rank)

    def size(self, name: str) -> int:
        """Bytes of tensor `name` as `read` gives it."""
        return Slot(name, self.dtype(name), self.shape(name)).size

    def same_bytes(self, first: str, second: str) -> bool:
        """Whether two tensors hold the same numbers in the same type and shape."""
        import torch

        kinds = [(self.dtype(name), self.shape(name)) for name in (first, second)]
        return kinds[0] == kinds[1] and torch.equal(self.read(first), self.read(second))

    def digest(self) -> str:
        """SHA-256 of the base's digest and the adapter's."""
        return hashlib.sha256(f"{self.base.digest()}+{self.adapter.digest()}".encode()).hexdigest()

    def stamp(self) -> str:
        """As `Checkpoint.stamp`; the adapter, which is small, by its content."""
        return hashlib.sha256(f"{self.base.stamp()}+{self.adapter.digest()}".encode()).hexdigest()


def fold(base: Checkpoint, adapter: Adapter) -> Folded:
    """`base` and `adapter` as one checkpoint: same names, shapes and reading, changed tensors in float32.

    Raises:
        InputError: the adapter changes a tensor that the base lacks or holds in another shape; names both.
    """
    return Folded(base, adapter)


def replaced(stored: Tensor, change: Change) -> Tensor:
    """The base's tensor `stored` in float32 with what `change` replaces, its low-rank part left out."""
    import torch

    if change.rows is not None:
        index = torch.tensor(change.rows.indices)
        return stored.to(torch.float32).index_copy(0, index, change.rows.values.read().to(torch.float32))
    return (stored if change.replacement is None else change.replacement.read()).to(torch.float32)


def open_model(reference: str | Path, base: Checkpoint | None = None) -> Checkpoint:
    """Open what a recipe may name as a model.

    Args:
        reference: a checkpoint directory; `checkpoint+adapter`, mergekit's way to write one folded into the other; or
            an adapter directory alone.
        base: the merge's base, into which an adapter alone is folded.

    Raises:
        InputError: see `open_checkpoint`, `open_adapter` and `fold`; an adapter alone where no base is known.
    """
    path, adapter = split_reference(reference)
    if path is not None:
        base = open_checkpoint(path)
    elif base is None:
        raise InputError(f"{adapter} is an adapter without its base; write BASE+{adapter}")
    return base if adapter is None else fold(base, open_adapter(adapter))


def split_reference(reference: str | Path) -> tuple[Path | None, Path | None]:
    """(checkpoint, adapter) of a reference, as directories; see `open_model`. Hub ids become their cached snapshots.

    A directory whose own name holds a `+` is taken as it is.

    Raises:
        InputError: a part is neither a directory nor in the hub cache.
    """
    text = str(reference)
    places = [place for place, sign in enumerate(text) if sign == "+"]
    if places and not Path(text).is_dir():
        place = next((place for place in places if is_adapter(text[place + 1 :])), places[0])
        return resolve(text[:place]), resolve(text[place + 1 :])
    folder = resolve(reference)
    full = any((folder / file).is_file() for file in (SINGLE, INDEX))
    return (None, folder) if is_adapter(folder) and not full else (folder, None)


def files(reference: str | Path) -> tuple[Path, ...]:
    """The files by whose time and size one tells that a reference's model is still the same (see `Sources`)."""
    path, adapter = split_reference(reference)
    wanted = [path / file for file in (SINGLE, INDEX)] if path is not None else []
    wanted += [adapter / file for file in (WEIGHTS, CONFIG)] if adapter is not None else []
    return tuple(file for file in wanted if file.is_file())


def _add(whole: Tensor, low: LowRank) -> Tensor:
    import torch

    factors = low.factors()
    changed = torch.addmm(whole, factors.b, factors.a, alpha=factors.scale)
    if low.magnitude is None:
        return changed
    # DoRA (arXiv:2402.09353): each output's weights get a trained length.
    dim, shape = (1, (-1, 1)) if low.layout == "linear" else (0, (1, -1))
    length = torch.linalg.vector_norm(changed, dim=dim)
    factor: Tensor = low.magnitude.read().to(torch.float32) / length
    return changed * factor.view(shape)


def _changes_of(base: Checkpoint, adapter: Adapter) -> dict[str, Change]:
    """The adapter's changes, checked against `base`, with what they mean for a tied head."""
    changes = dict(adapter.changes)
    for name, change in changes.items():
        _check(base, adapter, name, change)
    embedding = base.embedding
    head = base.head or next((name for name in changes if name not in base), _HEAD)
    if embedding is None or head in changes or embedding not in changes:
        return changes
    if changes[embedding].rows is None:
        # PEFT wraps the embedding alone: a head that was tied to it keeps the base's values.
        return changes if base.head else {**changes, head: Change()}
    if base.head and _says_tied(base.path):
        changes[head] = changes[embedding]  # trained tokens, though, PEFT ties again
    return changes


def _check(base: Checkpoint, adapter: Adapter, name: str, change: Change) -> None:
    source = _source(base, name)
    if source not in base:
        raise InputError(
            f"{adapter.name} changes {name}, which base {base.path} lacks; give the base it was trained on"
            + (f" ({adapter.base_name})" if adapter.base_name else "")
        )
    wanted = base.shape(source)
    shapes = {change.replacement.shape} if change.replacement else set()
    shapes |= {change.low_rank.shape} if change.low_rank else set()
    if change.rows is not None:
        shapes |= {(max(wanted[0], 1 + max(change.rows.indices)), *change.rows.values.shape[1:])}
    for shape in shapes - {wanted}:
        raise InputError(
            f"{adapter.name} changes {name} as {list(shape)}, base {base.path} holds {list(wanted)}; "
            "give the base it was trained on"
        )
    if not base.is_float(source):
        raise InputError(f"{adapter.name} changes {name}, which base {base.path} holds as {base.dtype(source)}")


def _source(base: Checkpoint, name: str) -> str:
    """The base's tensor that `name` starts from: a head that the base ties is its embedding."""
    tied = name not in base and base.head is None and base.embedding is not None
    return base.embedding or name if tied and name.endswith(_HEAD) else name


def _says_tied(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_bytes()).get("tie_word_embeddings") is True
    except (OSError, ValueError, AttributeError):
        return False  # a checkpoint without a readable config is refused where one is needed, when it is written


def _notes(base: Checkpoint, adapter: Adapter) -> tuple[str, ...]:
    wanted = adapter.base_name
    if wanted is None or Path(wanted).name in (base.path.name, base.path.resolve().name):
        return ()
    if f"models--{wanted.replace('/', '--')}" in base.path.parts:  # the hub cache names a snapshot by its commit
        return ()
    return (f"{adapter.name} names {wanted} as its base; it is folded into {base.path}",)
