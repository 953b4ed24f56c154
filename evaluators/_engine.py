"""What an evaluator asks of a model, whoever runs it. An engine is made by `_engines.load_engine`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ._errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Stop = Callable[[int, str], bool]
"""(index of the prompt, text so far) -> True when more text can no longer change the grade.

An engine may ask at any time or never, so a predicate only saves work: a grade must be the same with and without it.
The text so far never ends inside a character.
"""


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens instead of taking the likeliest.

    A draw depends on (`seed`, key of the prompt, position) alone, so a response is the same in every batch and order.

    Attributes:
        temperature: above 0; logits are divided by it.
        top_p: in (0, 1]; tokens are drawn from the smallest set that holds this probability (Holtzman et al. 2020,
            arXiv:1904.09751).
        seed: of all draws.
        keys: one text for each prompt; equal prompts with equal keys get equal responses.
    """

    temperature: float
    top_p: float
    seed: int
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"temperature: must be above 0, got {self.temperature}; leave it out for greedy decoding")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p: must be above 0 and at most 1, got {self.top_p}")


@dataclass(frozen=True)
class Likelihood:
    """What a model gives to a continuation.

    Attributes:
        logprob: sum over its tokens of the natural logarithm of each token's probability; at most 0.
        tokens: how many those are.
        greedy: whether greedy decoding would write them (whatever it writes after them).
    """

    logprob: float
    tokens: int
    greedy: bool


class Engine(Protocol):
    """One live model. Not thread-safe. Nothing that depends on weights outlives a call.

    With `chat` a prompt is one user turn in the checkpoint's chat template, if it has one; without it, or without a
    template, the model sees the bare text after its start token.
    """

    @property
    def tokens(self) -> int:
        """Tokens of all prompts, answers and responses so far; one prompt asked twice counts twice."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Tensors by checkpoint name, tied ones once; what is written into them counts from `written` on.

        Raises:
            InputError: the checkpoint names its tensors in another way than the live model does.
        """
        ...

    def written(self) -> None:
        """Say that the weights were overwritten; nothing of those before answers any more.

        Raises:
            RuntimeError: the engine cannot prove that the new weights are live.
        """
        ...

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Stop | None = None,
        until: Sequence[str] = (),
        sampling: Sampling | None = None,
        chat: bool = True,
    ) -> list[str]:
        """Responses, one per prompt, in order, without special tokens, at most `max_new_tokens` tokens each.

        Args:
            prompts: what to answer.
            max_new_tokens: limit of each response.
            stop: see `Stop`.
            until: a response ends before the first of these texts.
            sampling: None for greedy decoding.
            chat: see the class.

        Raises:
            InputError: a prompt with `max_new_tokens` more does not fit the model's context.
        """
        ...

    def loglikelihood(
        self, prompts: Sequence[str], continuations: Sequence[str], *, chat: bool = True
    ) -> list[Likelihood]:
        """How likely each continuation is after its prompt, its end not counted.

        An empty prompt without `chat` stands for the start of a text.

        Raises:
            InputError: a prompt with its continuation does not fit the model's context.
        """
        ...

    def matches(self, prompts: Sequence[str], answers: Sequence[str]) -> list[bool]:
        """Whether greedy decoding of each prompt would give exactly the tokens of its answer, then an end token.

        Raises:
            InputError: a prompt with its answer does not fit the model's context.
        """
        ...

    def render(self, turns: Sequence[Mapping[str, str]], *, more: bool = True) -> str:
        """What the chat template writes for turns with `role` and `content`; with `more` the start of an answer too.

        Raises:
            InputError: the checkpoint has no template.
        """
        ...

    def close(self) -> None:
        """Free the model; further calls are errors."""
        ...
