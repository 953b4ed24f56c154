"""What `chrf` and `bleu` share: generate, compare with the answer by sacrebleu, per sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._checks import answered, in_script
from ._errors import InputError
from ._types import Item, Room

if TYPE_CHECKING:
    from ._engine import Engine


@dataclass(frozen=True)
class Overlap:
    """An evaluator that compares words or characters with the answer.

    `make` builds sacrebleu's metric from `settings`, (name, value) pairs; `until` ends responses.
    """

    kind: str
    rules: int
    make: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...]
    max_new_tokens: int
    until: tuple[str, ...]
    any_script: bool

    @property
    def version(self) -> str:
        """The rules, sacrebleu's signature (which holds its version) and what changes values."""
        until = ",".join(map(repr, self.until))
        settings = ";".join(f"{name}={value}" for name, value in self.settings)
        rules = f"{self.kind}-{self.rules};sacrebleu={_sacrebleu(self.kind).__version__}"
        return f"{rules};{settings};max_new_tokens={self.max_new_tokens};until={until}"

    def check(self, items: Sequence[Item]) -> None:
        """Refuse items without an answer, and languages whose answers are in another script."""
        answered(self.kind, items)
        if not self.any_script:
            in_script(self.kind, items)

    def room(self, item: Item) -> Room:
        """The tokens that may be written."""
        return Room(new_tokens=self.max_new_tokens)

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """The sentence score of each greedy response."""
        prompts = [item.prompt for item in items]
        texts = engine.generate(prompts, max_new_tokens=self.max_new_tokens, until=self.until)
        return tuple(self.grade(item, text) for item, text in zip(items, texts, strict=True))

    def grade(self, item: Item, response: str) -> float:
        """The sentence score as a share of 1; nothing said is 0."""
        if not response.strip():
            return 0.0
        found: float = (
            _metric(self.kind, self.make, self.settings).sentence_score(response.strip(), [item.answer.strip()]).score
        )
        return min(1.0, max(0.0, found / 100))

    def gold(self, item: Item) -> str:
        """The answer."""
        return item.answer

    def empty(self, item: Item) -> str:
        """No text at all."""
        return ""


@lru_cache(maxsize=8)
def _metric(kind: str, make: Callable[..., Any], settings: tuple[tuple[str, Any], ...]) -> Any:
    _sacrebleu(kind)
    return make(**dict(settings))


def _sacrebleu(kind: str) -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise InputError(f"{kind}: sacrebleu is not installed; pip install 'mergefront[text]'") from None
    return sacrebleu
