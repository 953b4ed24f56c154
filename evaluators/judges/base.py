"""The base's answers, which a win-rate is against: generated once, and the same for every candidate and process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from filelock import FileLock, Timeout

from .cache import Cache, default_file
from .errors import Unavailable
from .settings import Judge

if TYPE_CHECKING:
    from .._engine import Engine
    from .._types import Evaluator, Item


@runtime_checkable
class Relative(Protocol):
    """An evaluator whose values are relative to the base model."""

    def with_base(self, engine: Engine, items: Sequence[Item], identity: str) -> Evaluator:
        """The same evaluator, with what it needs of the base; `engine` holds the base's weights.

        Args:
            engine: holding the base's weights.
            items: that will be scored.
            identity: of these weights and the engine; a change of either generates anew.
        """
        ...


LOCK_LIMIT_S = 3600.0
"""Longest wait for another process that generates them."""


def base_answers(
    judge: Judge, engine: Engine, prompts: Sequence[str], identity: str, max_new_tokens: int
) -> Mapping[str, str]:
    """Prompt -> greedy response of the base.

    One process generates what the cache does not know while the others wait for it, so all compare with the same
    texts even where two machines would round differently.

    Args:
        judge: whose cache holds them.
        engine: holding the base's weights.
        prompts: without repeats.
        identity: of weights and engine.
        max_new_tokens: limit of a response.

    Raises:
        Unavailable: another process that generates them did not end within `LOCK_LIMIT_S`, or the cache is unusable.
    """
    file = judge.cache or default_file()
    keys = {prompt: _key(identity, prompt, max_new_tokens) for prompt in prompts}
    with Cache(file) as cache:
        known = cache.answers(list(keys.values()))
        if len(known) < len(set(keys.values())):
            try:
                with FileLock(f"{file}.base.lock", timeout=LOCK_LIMIT_S):
                    known = cache.answers(list(keys.values()))
                    missing = [prompt for prompt, key in keys.items() if key not in known]
                    texts = engine.generate(missing, max_new_tokens=max_new_tokens)
                    cache.keep_answers((keys[prompt], text) for prompt, text in zip(missing, texts, strict=True))
            except Timeout:
                raise Unavailable(
                    f"the base's answers: another process has held {file}.base.lock for {LOCK_LIMIT_S:.0f} s; "
                    "see whether it hangs"
                ) from None
            known = cache.answers(list(keys.values()))
    return {prompt: known[key] for prompt, key in keys.items()}


def _key(identity: str, prompt: str, max_new_tokens: int) -> bytes:
    text = "\x1f".join((identity, str(max_new_tokens), prompt))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def weights_identity(path: str, dtype: str, engine: str) -> str:
    """What changes when the base's answers may: where its files lie, their sizes and times; type and engine.

    Times and not contents: reading 16 GB in every actor costs more than answering again after a `touch`.
    """
    folder = Path(path).resolve()
    files = sorted(file for file in folder.glob("*") if file.suffix in (".safetensors", ".json", ".jinja", ".model"))
    stats = [(file.name, found.st_size, found.st_mtime_ns) for file in files for found in (file.stat(),)]
    return repr((str(folder), stats, dtype, engine))
