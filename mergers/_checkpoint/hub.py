"""Models by name: a directory, or a hub id whose snapshot lies in the local hub cache."""

from __future__ import annotations

import re
from pathlib import Path

from .._errors import InputError

HUB_ID = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)?(@[\w./-]+)?")
"""What may be a hub id: `name` or `owner/name`, with `@revision` behind it or not."""


def resolve(model: str | Path) -> Path:
    """The directory of a model; nothing is downloaded.

    Args:
        model: a directory (`~` is expanded), or a hub id `owner/name`, `owner/name@revision`.

    Returns:
        The directory as given, or the snapshot in the hub cache.

    Raises:
        InputError: neither a directory nor in the cache.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    name = str(model)
    if folder.exists() or not HUB_ID.fullmatch(name):
        raise InputError(f"model {name} is not a directory; give a directory or a hub id such as owner/name")
    snapshot = cached(name)
    if snapshot is None:
        repo, _, revision = name.partition("@")
        command = f"hf download {repo}" + (f" --revision {revision}" if revision else "")
        raise InputError(f"model {name} is neither a directory nor in the hub cache; check it, or run `{command}`")
    return snapshot


def cached(name: str) -> Path | None:
    """The snapshot of hub id `name` in the local cache; None if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repo, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
