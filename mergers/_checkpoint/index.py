"""How a checkpoint is spread over files: one, or shards that an index lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .._errors import InputError
from .safetensors import Entry

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_index(index: Path, raw: bytes) -> dict[str, str]:
    """Tensor -> file of the index `raw`, which error messages call `index`.

    Raises:
        InputError: it is not an index.
    """
    try:
        return {str(name): str(file) for name, file in json.loads(raw)["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not a readable index ({error!r}); copy it again") from error


def placed(index: Path, wanted: Mapping[str, str], headers: Mapping[str, Mapping[str, Entry]]) -> dict[str, Entry]:
    """The tensors that an index places in files, by name, given the headers of those files.

    Raises:
        InputError: a file lacks a tensor that the index places in it.
    """
    for name, file in wanted.items():
        if name not in headers[file]:
            raise InputError(f"{index} places tensor {name} in {file}, which lacks it; copy the checkpoint again")
    return {name: headers[file][name] for name, file in wanted.items()}
