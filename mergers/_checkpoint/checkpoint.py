"""A checkpoint directory, opened by its headers. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from .._errors import InputError
from .compare import all_tied, compare, differences
from .index import INDEX, SINGLE, placed, read_index
from .safetensors import Entry, read_header
from .tensors import Checkpoint

__all__ = ["INDEX", "SINGLE", "Checkpoint", "all_tied", "compare", "differences", "open_checkpoint"]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open the safetensors checkpoint in directory `path`; reads headers only.

    Raises:
        InputError: no such directory, no safetensors in it (pickles are never loaded), a file cut short, an
            unreadable index, an index that names a missing shard or tensor.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"checkpoint {path} is not a directory; give a directory that holds {SINGLE}")
    try:
        if (folder / SINGLE).is_file():
            entries = read_header(folder / SINGLE)
        elif (folder / INDEX).is_file():
            entries = _sharded(folder)
        else:
            raise _unsuitable(folder)
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error}; check the path and its permissions") from error
    if not entries:
        raise InputError(f"checkpoint {path} holds no tensors; copy or save it again")
    return Checkpoint(folder, entries)


def _sharded(folder: Path) -> dict[str, Entry]:
    index = folder / INDEX
    wanted = read_index(index, index.read_bytes())
    headers: dict[str, dict[str, Entry]] = {}
    for file in dict.fromkeys(wanted.values()):
        if not (folder / file).is_file():
            raise InputError(f"{index} names shard {file}, which is missing; copy the checkpoint again")
        headers[file] = read_header(folder / file)
    return placed(index, wanted, headers)


def _unsuitable(folder: Path) -> InputError:
    if (folder / "adapter_config.json").is_file():
        return InputError(f"{folder} holds a LoRA adapter, not a model; write BASE+{folder}")
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        return InputError(f"{folder} holds only pickled weights, which are never loaded (they run code); convert them")
    return InputError(f"{folder} holds no {SINGLE}; save the model with save_pretrained")
