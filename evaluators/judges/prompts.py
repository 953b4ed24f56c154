"""Prompts as versioned files: `prompts/NAME-VERSION/LANGUAGE.yaml`, each with a `system` and a `user` text.

A published version never changes, since verdicts in caches and scores in runs are of it; a better wording is a new
folder. `tests/evaluators/judges/test_prompts.py` holds the digests of those that were published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template

import yaml

from .._errors import InputError, some

FOLDER = Path(__file__).with_name("prompts")
FALLBACK = "en"
Messages = tuple[tuple[str, str], ...]
"""(role, content) of a chat, in order."""


@dataclass(frozen=True)
class Prompt:
    """One version of a prompt in its languages.

    Attributes:
        name: folder name, such as `harm-1`.
        languages: those that have a file, sorted.
        digest: hash (12 hex digits) of all files.
        texts: (system, user) by language; `$question`, `$fence` and the fields of its kind stand for what is judged.
    """

    name: str
    languages: tuple[str, ...]
    digest: str
    texts: Mapping[str, tuple[Template, Template]]

    def messages(self, language: str, **fields: str) -> Messages:
        """The chat that asks one question.

        The lines between which the texts stand are marked by a hash of these texts, so no text can close its own
        frame and speak to the judge from outside: it would have to hold its own hash.

        Args:
            language: of the item; a region is ignored, and English stands in for a language without a file.
            fields: `question`, and `answer`, or `first` and `second`.
        """
        fence = "#" + hashlib.sha256("\x1f".join(fields.values()).encode("utf-8", "surrogatepass")).hexdigest()[:10]
        system, user = self.texts.get(language) or self.texts[self.language_for(language)]
        return ("system", system.template.strip()), ("user", user.substitute(fields, fence=fence).strip())

    def language_for(self, language: str) -> str:
        """The language whose file is used for an item's language."""
        code = language.replace("_", "-").split("-")[0].lower()
        return code if code in self.texts else FALLBACK


def names() -> tuple[str, ...]:
    """Names of the prompts in this package, sorted."""
    return tuple(sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir()))


@lru_cache(maxsize=32)
def load_prompt(name: str, fields: tuple[str, ...]) -> Prompt:
    """A prompt by name, or from a folder of one's own (a path with a slash).

    Args:
        name: such as `harm-1`.
        fields: what every user text must hold, besides `question` and `fence`.

    Raises:
        InputError: no such prompt, no English file, or a file that is not a prompt.
    """
    folder = Path(name) if "/" in name else FOLDER / name
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise InputError(
            f"no prompt {name!r}; there are {', '.join(names())}, or name a folder with LANGUAGE.yaml files"
        )
    texts = {file.stem: _read(file, ("question", "fence", *fields)) for file in files}
    if FALLBACK not in texts:
        raise InputError(f"prompt {name}: has no {FALLBACK}.yaml, which stands in for languages without a file; add it")
    content = b"\x1f".join(file.name.encode() + b"\x1f" + file.read_bytes() for file in files)
    return Prompt(folder.name, tuple(texts), hashlib.sha256(content).hexdigest()[:12], texts)


def _read(file: Path, fields: tuple[str, ...]) -> tuple[Template, Template]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict) or set(found) != {"system", "user"} or not all(map(_is_text, found.values())):
        raise InputError(f"{file}: a prompt holds two texts, system and user, and nothing else")
    system, user = Template(found["system"]), Template(found["user"])
    if not user.is_valid() or sorted(user.get_identifiers()) != sorted(fields):
        wanted = ", ".join(f"${name}" for name in fields)
        held = some([f"${name}" for name in user.get_identifiers()], 9) if user.is_valid() else "a lone $"
        raise InputError(f"{file}: the user text must hold {wanted}, each by this name; it holds {held}")
    return system, user


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
