"""GRPO's own parts: TRL's trainer with reproducible sampling and counts, and the reward around its function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ._draw import drawing
from ._encode import as_messages
from ._errors import InputError, TrainingError
from ._schema import load_function
from ._tally import TALLY, tally_of


def policy_trainer(seed: int, temperature: float, groups: int) -> Any:
    """TRL's GRPOTrainer, made to draw by sample and to add up what it trained on in ``counted``.

    Its rows have ``sample``, a number of their own for each completion, and ``group``.
    """
    from trl import GRPOTrainer
    from trl.trainer.utils import RepeatSampler

    class Policy(GRPOTrainer):  # type: ignore[misc]  # the library ships no types
        counted = torch.zeros(groups, len(TALLY), dtype=torch.int64)
        samples: Sequence[int] = ()

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            # The rows are there once for each completion already: a prompt's copies have numbers of their own.
            return RepeatSampler(
                data_source=dataset or self.train_dataset,
                mini_repeat_count=1,
                batch_size=self.args.generation_batch_size,
                repeat_count=self.num_iterations * self.args.steps_per_generation,
                shuffle=False,
            )

        def _generate_single_turn(self, *args: Any, **options: Any) -> Any:
            model = self.accelerator.unwrap_model(self.model_wrapped)
            with drawing(
                getattr(model, "base_model", model) if hasattr(model, "peft_config") else model,
                seed,
                self.samples,
                temperature,
            ):
                return super()._generate_single_turn(*args, **options)

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
            if not hasattr(self, "greedy"):
                # The draw leaves one token possible; what else would act on the logits is off.
                self.greedy = True
                self.generation_config.do_sample = False
                for name in ("temperature", "top_p", "top_k", "min_p"):
                    setattr(self.generation_config, name, None)
            self.samples = [row["sample"] for row in inputs]
            made = super()._generate_and_score_completions(inputs)
            prompts, answers = made["prompt_mask"].sum(dim=1).tolist(), made["completion_mask"].sum(dim=1).tolist()
            ends = torch.tensor(self.eos_token_ids, device=made["completion_ids"].device)
            ended = (torch.isin(made["completion_ids"], ends) & made["completion_mask"].bool()).any(dim=1).tolist()
            self.counted += tally_of(
                groups,
                [
                    (row["group"], int(prompt + answer), int(answer), int(not end))
                    for row, prompt, answer, end in zip(inputs, prompts, answers, ended, strict=True)
                ],
            )
            return made

    return Policy


def check_prompts(tokenizer: Any, prompts: Sequence[Any], room: int) -> None:
    """Refuse prompts of more than `room` tokens: a cut prompt asks something else.

    Raises:
        InputError: how many there are, and how long the longest is.
    """
    templated = tokenizer.chat_template is not None
    texts = [
        tokenizer.apply_chat_template(as_messages(prompt, "user"), tokenize=False, add_generation_prompt=True)
        if templated
        else prompt
        for prompt in prompts
    ]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=not templated)["input_ids"]]
    longer = [length for length in lengths if length > room]
    if longer:
        raise InputError(
            f"{len(longer)} of {len(lengths)} prompts have more than the {room} tokens that max_length leaves beside "
            f"completion_tokens (the longest {max(longer)}); raise max_length or leave them out"
        )


def rewarded(name: str, conversational: bool) -> Callable[..., list[float]]:
    """The reward `name` as TRL calls it, with texts for prompts that were texts.

    Args:
        name: ``package.module:function``.
        conversational: whether the data hold message lists.

    Raises:
        TrainingError: when called: it raised, or gave something that is no finite number.
    """
    function = load_function(name, "the reward")

    def reward(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        if not conversational:
            prompts, completions = [_content(one) for one in prompts], [_content(one) for one in completions]
        try:
            given = list(function(prompts, completions, **columns))
        # A stranger's function may raise anything; which one it was is what its writer needs.
        except Exception as error:
            raise TrainingError(f"the reward {name} raised {type(error).__name__}: {error}") from error
        if len(given) != len(completions):
            raise TrainingError(f"the reward {name} gave {len(given)} numbers for {len(completions)} completions")
        for value, completion in zip(given, completions, strict=True):
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise TrainingError(f"the reward {name} gave {value!r} for {str(completion)[:80]!r}; it must be finite")
        return [float(value) for value in given]

    reward.__name__ = name.rpartition(":")[2]
    return reward


def _content(value: Any) -> str:
    return value if isinstance(value, str) else str(value[-1]["content"])
