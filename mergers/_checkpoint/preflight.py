"""Whether models can be merged and what that takes, told before anything is merged or downloaded.

Everything comes from headers and small files: of a directory, of the hub cache, or of the hub itself by ranged
reads. Imports no torch.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .._errors import InputError
from .checkpoint import Checkpoint, compare, differences, open_checkpoint
from .compare import compare_headers, refuse_duplicates
from .describe import Described, describe
from .hub import HUB_ID, cached
from .mapped import free_bytes
from .remote import SMALL_FILES, HubModel
from .safetensors import Slot


@dataclass(frozen=True)
class Preflight:
    """What is known of a merge before it is made.

    Attributes:
        models: base first.
        dtype: of the output's floating-point tensors.
        disk: bytes of the output's weights.
        memory: bytes at most beyond the mapped inputs, for methods that need a tensor of every model at once in
            float32; methods that go block by block need less.
        live: bytes of a model of the output's type that is held in memory, as searches do.
        problems: what forbids the merge, one line each, those of single models included.
    """

    models: tuple[Described, ...]
    dtype: str
    disk: int
    memory: int
    live: int
    problems: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """The same for people."""
        out = [line for model in self.models for line in model.lines()]
        if self.disk:
            out.append(
                f"output in {self.dtype}: {_gigabytes(self.disk)} of disk; merging takes up to "
                f"{_gigabytes(self.memory)} of memory beside the mapped inputs, a model held in memory "
                f"{_gigabytes(self.live)}"
            )
        return (*out, *(f"problem: {problem}" for problem in self.problems))


def inspect(
    models: Sequence[str | Path],
    *,
    dtype: str | None = None,
    out: Path | None = None,
    endpoint: str | None = None,
    same_rows: bool = True,
) -> Preflight:
    """Look at a base and its experts.

    Args:
        models: the base first; directories, cached hub ids, or hub ids, `owner/name@revision` too.
        dtype: of the output: `float32`, `bfloat16`, `float16`; None for the type of most of the base.
        out: where the output would go, to hold the room there against what is needed.
        endpoint: of the hub; None for the usual one.
        same_rows: False where a vocabulary policy maps rows.

    Returns:
        What was found. Bad models are problems in it, not errors.
    """
    found = [_opened(model, endpoint) for model in models]
    described = tuple(one for one, _ in found)
    problems = [problem for one in described for problem in one.problems]
    try:
        refuse_duplicates([str(model) for model in models[1:]])
    except InputError as error:
        problems.append(str(error))
    first, base = found[0]
    if base is None:
        return Preflight(described, dtype or "", 0, 0, 0, tuple(problems))
    notes: dict[int, tuple[str, ...]] = {}
    for i, (model, other) in enumerate(found[1:], 1):
        if other is None:
            continue
        try:
            readable = not model.remote and not first.remote
            (compare if readable else compare_headers)(base, other, f"expert {model.name}", same_rows=same_rows)
            notes[i] = differences(base, other)
        except InputError as error:
            problems.append(str(error))
        if model.architecture and first.architecture and model.architecture != first.architecture:
            problems.append(
                f"expert {model.name} is a {model.architecture}, the base a {first.architecture}; "
                f"an expert must be fine-tuned from this base"
            )
    described = tuple(one.with_notes(notes.get(i, ())) for i, one in enumerate(described))
    dtype = dtype or first.main_type
    disk = sum(_slot(base, name, dtype).size for name in base.names)
    largest = max(math.prod(base.shape(name)) for name in base.names)
    if out is not None:
        place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
        if disk > free_bytes(place):
            problems.append(
                f"the output needs {_gigabytes(disk)}, the disk of {place} has {_gigabytes(free_bytes(place))} free; "
                f"make room or choose another disk"
            )
    memory = largest * 4 * (len(models) + 2)  # the inputs, an intermediate and the result
    return Preflight(described, dtype, disk, memory, disk, tuple(problems))


def _opened(model: str | Path, endpoint: str | None) -> tuple[Described, Checkpoint | None]:
    name = str(model)
    try:
        folder = Path(model).expanduser()
        local = folder if folder.exists() or not HUB_ID.fullmatch(name) else cached(name)
        if local is not None:
            checkpoint = open_checkpoint(local)
            return describe(name, checkpoint, local), checkpoint
        hub = HubModel(name, endpoint)
        checkpoint = hub.checkpoint()
        with tempfile.TemporaryDirectory() as files:
            for file in SMALL_FILES:
                raw = hub.file(file)
                if raw is not None:
                    (Path(files) / file).write_bytes(raw)
            return describe(name, checkpoint, Path(files), remote=True), checkpoint
    except InputError as error:
        return Described(name, problems=(str(error),)), None


def _slot(base: Checkpoint, name: str, dtype: str) -> Slot:
    return Slot(name, dtype if base.is_float(name) else base.dtype(name), base.shape(name))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**7 else f"{count / 1e6:.2f} MB"
