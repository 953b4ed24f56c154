"""What an evaluator asks of a model, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Stop = Callable[[int, str], bool]
"""(index of the prompt, text so far) -> True when more text can no longer change the grade.

An engine may ask at any time or never, so a predicate only saves work: a grade must be the same with and without it.
The text so far never ends inside a character.
"""


class Engine(Protocol):
    """One live model. Not thread-safe. Nothing that depends on weights outlives a call."""

    def weights(self) -> dict[str, Tensor]:
        """Live tensors by checkpoint name, tied ones once: writing into them changes the very next answer.

        Raises:
            InputError: the checkpoint names its tensors in another way than the live model does.
        """
        ...

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, stop: Stop | None = None) -> list[str]:
        """Greedy responses, one per prompt, in order, without special tokens, at most `max_new_tokens` tokens each.

        Raises:
            InputError: a prompt with `max_new_tokens` more does not fit the model's context.
        """
        ...

    def matches(self, prompts: Sequence[str], answers: Sequence[str]) -> list[bool]:
        """Whether greedy decoding of each prompt would give exactly the tokens of its answer, then an end token.

        Raises:
            InputError: a prompt with its answer does not fit the model's context.
        """
        ...

    def close(self) -> None:
        """Free the model; further calls are errors."""
        ...
