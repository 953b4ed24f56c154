"""Item files to items, refused early and by name. Imports `datasets` only when a file needs it."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ._errors import InputError, some
from ._types import SPLITS, Item

COLUMNS = ("id", "prompt", "answer", "language", "group", "task", "split", "choices", "tests")
REQUIRED = ("prompt", "language")

_FORMATS = {".jsonl": "json", ".json": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}

Row = tuple[str, Mapping[str, Any]]
"""(where it stands, for messages; its columns)."""


def load_items(source: str | Path | Mapping[str, Any], languages: Sequence[str]) -> tuple[Item, ...]:
    """Read the items of one evaluator, in file order.

    Columns: `prompt` and `language` must be there; `answer`, `task` and `tests` are "" if absent; `choices` is a list
    of texts (in CSV as JSON), none if absent; `id` is a hash of prompt, answer and language if absent; `group` is the
    id if absent; `split` ("search" or "report") is half and half by a hash of the group if absent, so items of one
    group stay together.

    Args:
        source: a file, or a mapping with `path` ("json", "csv", "parquet", or a hub id or directory), `files`,
            `columns` (our name -> name in the data) and `split` (of the dataset; "train" if absent, as for files).
        languages: codes that items may have, in the recipe's order.

    Raises:
        InputError: a file that is missing, not UTF-8 or not JSON, no items, a missing column, an empty prompt, a
            language not in `languages`, an unknown split, an id that occurs twice.
    """
    spec = _spec(source)
    named = _named(spec)
    rows = list(_rows(spec))
    if not rows:
        raise InputError(f"{named}: holds no items; add at least one row")
    names = _columns(spec, rows, named)
    items = tuple(_item(where, row, names) for where, row in rows)
    _check_languages(items, languages, named)
    _check_ids(items, named)
    return items


def digest(items: Iterable[Item]) -> str:
    """SHA-256, in hex, of everything that items hold, whatever their order; enters what results are known by."""
    rows = sorted(json.dumps(astuple(item), ensure_ascii=True) for item in items)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _spec(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    path = Path(source)
    if path.suffix in _FORMATS:
        return {"path": _FORMATS[path.suffix], "files": [str(path)]}
    return {"path": str(source)}


def _files(spec: Mapping[str, Any]) -> list[str]:
    files = spec.get("files") or ()
    return [str(file) for file in ([files] if isinstance(files, str | Path) else files)]


def _named(spec: Mapping[str, Any]) -> str:
    return some(_files(spec)) or str(spec["path"])


def _rows(spec: Mapping[str, Any]) -> Iterable[Row]:
    files = _files(spec)
    local = [Path(file) for file in files if "://" not in file]
    for file in local:
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    reader = {"json": _read_json, "csv": _read_csv}.get(str(spec["path"]))
    if reader and local and len(local) == len(files) and all(file.suffix in _FORMATS for file in local):
        # Not through `datasets`: its readers turn a column of texts like "2024-05-07" into time stamps, 07 into 7 and
        # "NA" into nothing, and their errors name no line.
        for file in local:
            yield from reader(file)
    else:
        yield from _read_datasets(spec, files)


def _read_json(file: Path) -> Iterable[Row]:
    """JSON Lines, or one JSON array of objects."""
    text = _text(file)
    if text.lstrip().startswith("["):
        found = [(f"{file} item {index}", row) for index, row in enumerate(_parsed(text, str(file)), start=1)]
    else:
        # Not splitlines: JSON strings may hold U+2028 and its kind unescaped.
        lines = [(f"{file}:{number}", line) for number, line in enumerate(text.split("\n"), start=1)]
        found = [(where, _parsed(line, where)) for where, line in lines if line.strip()]
    for where, row in found:
        if not isinstance(row, dict):
            raise InputError(f"{where}: is a JSON {type(row).__name__}, but an object with columns is needed")
        yield where, row


def _read_csv(file: Path) -> Iterable[Row]:
    """Comma-separated with a header line; every cell is text."""
    reader = csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{file}:{reader.line_num}: has another number of cells than the header")
            yield f"{file}:{reader.line_num}", row
    except csv.Error as error:
        raise InputError(f"{file}:{reader.line_num}: is not valid CSV: {error}") from None


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is not valid JSON: {error.msg} at column {error.colno}") from None


def _read_datasets(spec: Mapping[str, Any], files: Sequence[str]) -> Iterable[Row]:
    import datasets

    path = str(spec["path"])
    options = {"data_files": list(files)} if files else {}
    split = spec.get("split") or "train"
    try:
        found = datasets.load_dataset(path, split=split, **options)
    except Exception as error:  # `datasets` lets through whatever its readers, fsspec and the hub raise: all mean this
        cause = error.__cause__ or error
        text = str(cause).strip().splitlines() or [type(cause).__name__]
        raise InputError(f"{_named(spec)}: cannot be read as {path}: {text[0]}") from error
    for number, row in enumerate(found, start=1):
        yield f"{_named(spec)} row {number}", row


def _columns(spec: Mapping[str, Any], rows: Sequence[Row], named: str) -> dict[str, str]:
    """Our column -> their column, for the columns that are there."""
    mapping = dict(spec.get("columns") or {})
    present = tuple(dict.fromkeys(name for _, row in rows for name in row))
    names = {}
    for column in COLUMNS:
        theirs = mapping.get(column, column)
        if theirs in present:
            names[column] = theirs
        elif column in REQUIRED or column in mapping:
            close = difflib.get_close_matches(theirs, present, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? Map it with" if close else "map it with"
            raise InputError(
                f"{named}: no column {theirs!r}; {hint} columns: {{{column}: {close[0] if close else '...'}}} "
                f"(columns here: {', '.join(present)})"
            )
    return names


def _item(where: str, row: Mapping[str, Any], names: Mapping[str, str]) -> Item:
    def text(column: str) -> str:
        value = row.get(names[column]) if column in names else None
        if value is None:
            return ""
        if isinstance(value, list | dict | float):
            raise InputError(f"{where}: column {names[column]!r} must hold text, got {str(value)[:40]!r}")
        return str(value)

    prompt, answer, language = text("prompt"), text("answer"), text("language")
    if not prompt.strip():
        raise InputError(f"{where}: has no {names['prompt']}; fill it or remove the row")
    # \x1f cannot be confused with text, so ("a", "bc") and ("ab", "c") hash differently.
    key = text("id") or hashlib.sha256("\x1f".join((prompt, answer, language)).encode()).hexdigest()[:16]
    group = text("group") or key
    split = text("split") or SPLITS[hashlib.sha256(group.encode()).digest()[0] & 1]
    if split not in SPLITS:
        raise InputError(f"{where}: unknown split {split!r}; use {' or '.join(SPLITS)}")
    choices = _choices(where, row.get(names["choices"])) if "choices" in names else ()
    return Item(key, prompt, answer, language, group, text("task"), split, choices, text("tests"))


def _choices(where: str, value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    found = _parsed(value, where) if isinstance(value, str) else value
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(text, str) for text in found):
        raise InputError(f"{where}: choices must be a list of texts, got {str(value)[:40]!r}")
    return tuple(found)


def _check_languages(items: Sequence[Item], languages: Sequence[str], named: str) -> None:
    foreign = [item for item in items if item.language not in languages]
    if foreign:
        codes = some([repr(code) for code in dict.fromkeys(item.language for item in foreign)])
        raise InputError(
            f"{named}: {len(foreign)} of {len(items)} items have a language that the recipe does not list: {codes}; "
            f"listed: {', '.join(languages)}; add it there, or remove the items"
        )


def _check_ids(items: Sequence[Item], named: str) -> None:
    twice = [key for key, times in Counter(item.id for item in items).items() if times > 1]
    if twice:
        raise InputError(
            f"{named}: {len(twice)} ids occur more than once (without an id column: equal rows): {some(twice)}; "
            "make them unique"
        )
