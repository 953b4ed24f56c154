"""Reinforcement learning with rewards that a function computes: TRL's GRPOTrainer on DeepSpeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from ._built import Built
from ._errors import InputError
from ._run import run, with_options
from ._schema import Report, load_function
from ._types import DEFAULT, Choice, Columns, Function, Placement, Range, TrainSpec

if TYPE_CHECKING:
    from ._workplace import Workplace

COLUMNS = Columns((("prompt",),), others=True)
# Those of TRL whose loss is a mean over the whole batch, so that it does not depend on how that is cut.
LOSSES = ("dapo", "grpo", "dr_grpo")


def grpo(
    spec: TrainSpec,
    *,
    out: str,
    work: str,
    report: Report,
    placement: Placement = DEFAULT,
    threads: int | None = None,
    reward: Annotated[str, Function("scores completions")],
    generations: Annotated[int, Range(2, 1024)] = 8,
    completion_tokens: Annotated[int, Range(1, 2**20)] = 256,
    temperature: Annotated[float, Range(0, 10, open_low=True)] = 1.0,
    beta: Annotated[float, Range(0, 10)] = 0.0,
    epsilon: Annotated[float, Range(0, 1, open_low=True)] = 0.2,
    loss_type: Annotated[str, Choice(LOSSES)] = "dapo",
) -> None:
    """Train on the model's own answers, better ones against worse ones (Shao et al. 2024, arXiv 2402.03300).

    A step sees `spec.batch` completions: `generations` for each of ``batch / generations`` prompts. The reward is
    called as TRL calls one, ``reward(prompts, completions, **columns) -> list of numbers``: texts where the data hold
    texts, message lists where they hold message lists; `columns` are all further columns of the data (``answer``, ..).

    Completions are drawn by numbers that hang on the seed, the sample and the position alone (``_draw``). What they
    cost is in the record: ``tokens`` are prompts and completions, ``loss_tokens`` completions, ``truncated`` those that
    had not ended after `completion_tokens`.

    Args:
        spec: what to train; ``loss`` in its reports is the policy's, ``curves`` has the rewards.
        out: see ``trainers.sft``.
        work: see ``trainers.sft``.
        report: see ``trainers.sft``.
        placement: see ``trainers.sft``.
        threads: see ``trainers.sft``.
        reward: ``package.module:function``.
        generations: completions of each prompt, which are compared with each other.
        completion_tokens: most tokens of a completion; prompt and completion must fit `spec.max_length`.
        temperature: of sampling.
        beta: weight of the divergence from the start model; 0 keeps no reference.
        epsilon: how far a token's probability may move in a step before its gradient is cut off.
        loss_type: how tokens are averaged, as in TRL's ``GRPOConfig``.

    Raises:
        InputError: see ``trainers.sft``; a prompt that leaves no room for a completion.
        TrainingError: see ``trainers.sft``; a reward that is no finite number.
    """
    spec = with_options(
        spec,
        reward=reward,
        generations=generations,
        completion_tokens=completion_tokens,
        temperature=temperature,
        beta=beta,
        epsilon=epsilon,
        loss_type=loss_type,
    )
    if spec.batch % generations:
        raise InputError(
            f"batch {spec.batch} completions do not divide by {generations} generations for each prompt; "
            "make batch a multiple"
        )
    if completion_tokens >= spec.max_length:
        raise InputError(
            f"completion_tokens {completion_tokens} leaves no room for a prompt in max_length {spec.max_length}"
        )
    load_function(reward, "the reward")
    run("grpo", spec, placement, _build, out=out, work=work, report=report, threads=threads)


def _build(at: Workplace) -> Built:
    from trl import GRPOConfig

    from ._data import mixture
    from ._policy import check_prompts, policy_trainer, rewarded
    from ._workplace import pad_token

    options: dict[str, Any] = dict(at.spec.options)
    arguments = GRPOConfig(
        **at.arguments(),
        num_generations=options["generations"],
        max_completion_length=options["completion_tokens"],
        temperature=options["temperature"],
        beta=options["beta"],
        epsilon=options["epsilon"],
        loss_type=options["loss_type"],
        shuffle_dataset=False,
    )
    tokenizer = at.tokenizer()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_token(tokenizer))
    rows, groups, _ = mixture(at.spec, COLUMNS, copies=options["generations"])
    rows = rows.add_column("sample", list(range(len(rows))))
    texts = isinstance(rows[0]["prompt"], str)
    prompts = list(rows["prompt"])[:: options["generations"]]
    check_prompts(tokenizer, prompts, at.spec.max_length - options["completion_tokens"])
    if texts and tokenizer.chat_template is not None:
        rows = rows.with_transform(_asked)
    trainer = policy_trainer(at.spec.seed, options["temperature"], len(groups))(
        model=at.model(),
        reward_funcs=rewarded(options["reward"], conversational=not texts),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=at.peft(),
    )
    return Built(trainer, groups, more_forward=2.0 if options["beta"] else 1.0)


def _asked(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Texts as what a user says: TRL writes the chat template around messages only."""
    from ._encode import as_messages

    return {**rows, "prompt": [as_messages(prompt, "user") for prompt in rows["prompt"]]}
