"""The tokens of a model, read from `tokenizer.json` as plain JSON; and that file written with tokens added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._errors import InputError

FAST = "tokenizer.json"
_SLOW = (
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "sentencepiece*.model",
    "*.tiktoken",
)
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_TEMPLATES = ("chat_template.json", "chat_template.jinja", "additional_chat_templates/*.jinja")


@dataclass(frozen=True)
class Tokens:
    """What one tokenizer maps to numbers.

    Attributes:
        ids: token -> number, added tokens included.
        added: token -> its fields in `tokenizer.json`, for tokens that are matched before the text is split.
    """

    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]


def read_tokens(folder: Path) -> Tokens | None:
    """The tokens of the tokenizer in `folder`; None where there is no tokenizer at all.

    Raises:
        InputError: only a tokenizer that is not `tokenizer.json`; a file that cannot be read.
    """
    file = folder / FAST
    if not file.is_file():
        slow = slow_files(folder)
        if slow:
            raise InputError(
                f"{folder} has {slow[0].name} but no {FAST}, which is needed to match tokens; "
                f"load its tokenizer with transformers and save it again"
            )
        return None
    fields = _json(file)
    try:
        model = fields["model"]["vocab"]
        words = model.items() if isinstance(model, dict) else ((entry[0], i) for i, entry in enumerate(model))
        ids = {str(token): int(number) for token, number in words}
        added = {str(entry["content"]): dict(entry) for entry in fields.get("added_tokens") or ()}
        ids |= {token: int(entry["id"]) for token, entry in added.items()}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{file} is not a readable tokenizer ({error!r}); copy it again") from error
    for number, entry in _settings(folder).get("added_tokens_decoder", {}).items():
        if entry["content"] not in ids:
            ids[entry["content"]] = int(number)
            added[entry["content"]] = {"id": int(number)} | entry
    return Tokens(ids, added)


def union(
    tokens: Mapping[str, int], models: Sequence[tuple[Mapping[str, int], Tokens]]
) -> tuple[dict[str, int], dict[str, Mapping[str, Any]]]:
    """The base's tokens and those that only others have; the new ones all become added tokens, as in mergekit.

    Args:
        tokens: of the base, token -> row.
        models: of each model, the base first: its tokens that have a row, and all of them.

    Returns:
        Token -> row, the base's rows kept, new ones behind (words first, then what was an added token, each in
        the models' order); and the added tokens, the first model's settings where several differ.
    """
    settings: dict[str, Mapping[str, Any]] = {}
    for rows, known in models:
        for token, fields in known.added.items():
            if token in rows:
                settings.setdefault(token, fields)
    words = [token for rows, _ in models for token in sorted(rows, key=rows.__getitem__) if token not in settings]
    new = [token for token in dict.fromkeys((*words, *settings)) if token not in tokens]
    start = max(tokens.values(), default=-1) + 1
    out = dict(tokens) | {token: start + i for i, token in enumerate(new)}
    return out, {token: {**settings.get(token, {}), "id": out[token]} for token in dict.fromkeys((*settings, *new))}


def slow_files(folder: Path) -> tuple[Path, ...]:
    """Files of a tokenizer in `folder` that are not `tokenizer.json`."""
    return tuple(file for pattern in _SLOW for file in sorted(folder.glob(pattern)))


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Make the tokenizer in `folder` (chat templates included) that of `source`."""
    for pattern in (FAST, *_SLOW, *_SETTINGS, *_TEMPLATES):
        for stale in folder.glob(pattern):
            stale.unlink()
        for file in sorted(source.glob(pattern)):
            target = folder / file.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)


def set_added(folder: Path, added: Mapping[str, Mapping[str, Any]]) -> None:
    """Make `added` (see `Tokens.added`) the added tokens of the tokenizer in `folder`; other forms of it go.

    Raises:
        InputError: `tokenizer.json` cannot be read.
    """
    entries = sorted((_entry(token, fields) for token, fields in added.items()), key=lambda entry: entry["id"])
    _write(folder / FAST, _json(folder / FAST) | {"added_tokens": entries})
    settings = _settings(folder)
    if settings:
        decoder = {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in entries}
        _write(folder / "tokenizer_config.json", settings | {"added_tokens_decoder": decoder})
    for stale in (*slow_files(folder), folder / "added_tokens.json"):  # they know nothing of the new tokens
        stale.unlink(missing_ok=True)


def _entry(token: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    special = bool(fields.get("special", False))
    defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special}
    return {"id": fields["id"], "content": token} | {key: fields.get(key, value) for key, value in defaults.items()}


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return _json(file) if file.is_file() else {}


def _json(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not readable JSON ({error}); copy it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"{file} is not a JSON object; copy it again")
    return fields


def _write(file: Path, fields: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
