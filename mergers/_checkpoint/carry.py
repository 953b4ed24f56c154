"""What a merged model takes over from a model besides weights: configuration, tokenizer, templates, named code."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._errors import InputError

CARRIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
    "*.tiktoken",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)
"""What is copied besides config.json: never weights or pickles, and of code only what `auto_map` names."""

_ALIASES = {"num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers")}
_TEXT = ("text_config", "llm_config", "language_config")
_NAMES_CODE = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")


def carry_files(source: Path, folder: Path, dtype: str, *, changes: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Copy what a model needs besides its weights; `config.json` gets `dtype` as their type.

    Python files are copied only where an `auto_map` of the configuration names them (such a model cannot be
    loaded without), with what they import from beside them. They are copied, never run; a note names each.

    Args:
        source: directory of the model.
        folder: where to.
        dtype: of the weights written.
        changes: numbers of `config.json` to set: `num_hidden_layers`, `vocab_size`. Each goes where the model has
            it, under the name that it has there (GPT-2 says `n_layer`), in the language model's own part too.

    Returns:
        Lines that say which code was carried or is missing.

    Raises:
        InputError: `config.json` is not JSON.
    """
    for pattern in CARRIED:
        for file in sorted(source.glob(pattern)):
            target = folder / file.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    config = source / "config.json"
    if config.is_file():
        written = _with_dtype(_json(config), dtype, top=True)
        for name, value in (changes or {}).items():
            written = _with_number(written, _ALIASES.get(name, (name,)), value)
        text = json.dumps(written, indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    return _carry_code(source, folder)


def _carry_code(source: Path, folder: Path) -> tuple[str, ...]:
    notes = []
    wanted = [name for file in _NAMES_CODE if (source / file).is_file() for name in _named(_json(source / file))]
    done: list[str] = []
    while wanted:
        name = wanted.pop(0)
        if name in done:
            continue
        done.append(name)
        file = source / name
        if not file.is_file():
            notes.append(f"{source} names code {name}, which is not there; the output cannot be loaded without it")
            continue
        shutil.copyfile(file, folder / name)
        notes.append(f"carried code: {name} (named by auto_map; runs only where trust_remote_code is given)")
        wanted += _imported(file)
    return tuple(notes)


def _named(fields: Mapping[str, Any]) -> Iterator[str]:
    """Python files that an `auto_map` names beside it; `owner/repo--module.Class` names another repository's."""
    named = fields.get("auto_map")
    for value in named.values() if isinstance(named, dict) else ():
        for reference in value if isinstance(value, list) else [value]:
            if isinstance(reference, str) and "--" not in reference and reference.split(".")[0].isidentifier():
                yield f"{reference.split('.')[0]}.py"


def _imported(file: Path) -> list[str]:
    """Python files beside `file` that it imports: `from .name import ...` and `from . import name`."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found += [f"{module.split('.')[0]}.py" for module in modules]
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); copy it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"{file} is not a JSON object; copy it again")
    return fields


def _with_dtype(fields: Mapping[str, Any], dtype: str, *, top: bool) -> dict[str, Any]:
    """`fields` with the type of weights replaced, also under its older name `torch_dtype`."""
    changed = {
        key: _with_dtype(value, dtype, top=False) if isinstance(value, dict) else value for key, value in fields.items()
    }
    for key in ("dtype", "torch_dtype"):
        if key in fields or (top and key == "dtype"):
            changed[key] = dtype
    return changed


def _with_number(fields: Mapping[str, Any], names: Sequence[str], value: int) -> dict[str, Any]:
    """`fields` with a number set under the name that it has there, also in the language model's own part."""
    changed = dict(fields)
    found = [name for name in names if name in changed]
    for part in _TEXT:
        if isinstance(changed.get(part), dict) and any(name in changed[part] for name in names):
            changed[part] = _with_number(changed[part], names, value)
            found.append(part)
    return changed | {name: value for name in (found or names[:1]) if name not in _TEXT}
