"""Classifier: 1 if a second model gives the response the label asked for, else 0. The label says what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from ._checks import one_of, whole
from ._errors import InputError
from ._schema import LOCAL
from ._types import Evaluator, Item, Room

if TYPE_CHECKING:
    from ._engine import Engine

RULES = 1
"""Raise when the same responses would get other values."""


def classifier(
    *,
    model: Annotated[str, LOCAL],
    label: str,
    positive: str,
    negative: str = "",
    inputs: Literal["response", "pair"] = "pair",
    max_new_tokens: int = 128,
    verdict_tokens: int = 16,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    device: str = "auto",
) -> Evaluator:
    """Share of greedy responses that a second model labels `label`.

    Two types of model, told apart by their config: a sequence classifier (any language, any number of labels; the
    likeliest counts), and a generative guard (Llama Guard and its like: its chat template renders the prompt and the
    response, and what it writes is the label if it begins with it, such as "unsafe"). What does not fit a sequence
    classifier's context is cut, the longer of prompt and response first; for a guard it is an error.

    The model lies in the memory of every process that scores, beside the one that is scored. Before its first use it
    must label `positive` with the label and `negative` not: a label that is the wrong way round is found then.

    Args:
        model: directory or hub id of the classifier; safetensors only, no code of it is run.
        label: that counts as 1; one of its config's `id2label`, or the beginning of a guard's verdict.
        positive: a response that must get the label.
        negative: a response that must not.
        inputs: what the classifier reads: prompt and response, or the response alone (not for guards).
        max_new_tokens: limit of a response.
        verdict_tokens: limit of a guard's verdict.
        dtype: of the classifier's weights and arithmetic.
        device: "auto" (a CUDA device if there is one), "cpu", "cuda", ...

    Raises:
        InputError: a value out of range.
    """
    one_of("classifier", "inputs", inputs, ("response", "pair"))
    whole("classifier", "max_new_tokens", max_new_tokens)
    whole("classifier", "verdict_tokens", verdict_tokens)
    for name, text in (("model", model), ("label", label), ("positive", positive)):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"classifier: {name} must be a text that is not empty, got {text!r}")
    return Classifier(model, label, positive, negative, inputs, max_new_tokens, verdict_tokens, dtype, device)


@dataclass(frozen=True)
class Classifier:
    """See `classifier`."""

    model: str
    label: str
    positive: str
    negative: str
    inputs: str
    max_new_tokens: int
    verdict_tokens: int
    dtype: str
    device: str
    kind: str = "classifier"

    @property
    def version(self) -> str:
        """The rules, the classifier's content and what changes values."""
        from ._classify import content

        read = f"{self.inputs};verdict_tokens={self.verdict_tokens};dtype={self.dtype}"
        return (
            f"{self.kind}-{RULES};model={content(self.model)};label={self.label!r};inputs={read};"
            f"max_new_tokens={self.max_new_tokens}"
        )

    def check(self, items: Sequence[Item]) -> None:
        """Refuse a model that is no classifier, or has no such label."""
        from ._classify import check_model

        check_model(self.model, self.label, self.inputs)

    def room(self, item: Item) -> Room:
        """The tokens that may be written."""
        return Room(new_tokens=self.max_new_tokens)

    def score(self, engine: Engine, items: Sequence[Item]) -> tuple[float, ...]:
        """1 where the greedy response gets the label, else 0."""
        responses = engine.generate([item.prompt for item in items], max_new_tokens=self.max_new_tokens)
        return self._labelled([item.prompt for item in items], responses)

    def grade(self, item: Item, response: str) -> float:
        """1 if `response` gets the label."""
        return self._labelled([item.prompt], [response])[0]

    def gold(self, item: Item) -> str:
        """The recipe's example."""
        return self.positive

    def empty(self, item: Item) -> str:
        """The recipe's counter-example."""
        return self.negative

    def _labelled(self, prompts: Sequence[str], responses: Sequence[str]) -> tuple[float, ...]:
        from ._classify import load

        model = load(self.model, self.dtype, self.device, self.inputs, self.verdict_tokens)
        model.prove(self.label, self.positive, self.negative)
        return tuple(float(found) for found in model.has(self.label, prompts, responses))
