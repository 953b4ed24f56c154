"""What a training costs, before it is run: the unit in which `steps: match` compares trainings.

Counted is the arithmetic of a decoder with N parameters on T tokens (Kaplan et al. 2020, arXiv:2001.08361, section
2.1): a forward pass takes 2 N T operations, a backward pass 4 N T, and half of that where the weights themselves have
no gradient (LoRA). N is the base's for every model of a recipe, and how long sequences are is not known before data is
tokenized; so the unit is one sequence of full supervised fine-tuning, and all sequences count as equally long. What
trainings really took (tokens, FLOPs) stands in the report, beside the ratio that a match came to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from search._recipe.training import Training

FORWARD, BACKWARD, SFT = 2.0, 4.0, 6.0


def per_sequence(training: Training) -> float:
    """Cost of one sequence of the batch (a pair in dpo, a completion in grpo), in sequences of full fine-tuning.

    A preference pair is two sequences that a reference reads too. A completion of grpo is generated (one forward pass
    with a cache), read by the reference unless `beta` is 0, and trained on. Remix trains a reference model, and then a
    proxy whose losses are compared with it, so every sequence is trained on twice and read once.
    """
    learn = FORWARD + BACKWARD / (2 if training.lora is not None else 1)
    if training.trainer == "dpo":
        return 2 * (learn + FORWARD) / SFT
    if training.trainer == "grpo":
        reference = FORWARD if training.options.get("beta", 0.0) else 0.0
        return (FORWARD + learn + reference) / SFT
    if training.trainer == "remix":
        return (2 * learn + FORWARD) / SFT
    return learn / SFT


def total(trainings: Iterable[tuple[Training, int]]) -> float:
    """Cost of trainings with their steps, in sequences of full fine-tuning."""
    return math.fsum(steps * training.batch * per_sequence(training) for training, steps in trainings)
