"""What can be refused before anything is loaded: settings, names of local files, DeepSpeed configurations."""

import importlib.util
from pathlib import Path

from ._errors import InputError
from ._types import Lora, Placement, Source, TrainSpec

TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}
"""What transformers can report to -> packages of which one must be there."""


def check_spec(spec: TrainSpec) -> None:
    """Refuse settings that cannot train; reads the spec and the names of local files, loads nothing.

    Raises:
        InputError: naming the setting, its value and the remedy.
    """
    _hold(
        (spec.steps >= 1, f"steps must be at least 1, got {spec.steps}"),
        (spec.batch >= 1, f"batch must be at least 1, got {spec.batch}"),
        (0 < spec.learning_rate < 1, f"learning_rate must be between 0 and 1, got {spec.learning_rate}"),
        (0 <= spec.warmup < 1, f"warmup is a share of the steps in [0, 1), got {spec.warmup}"),
        (
            spec.schedule in ("cosine", "linear", "constant"),
            f"schedule must be cosine, linear or constant, got {spec.schedule!r}",
        ),
        (spec.weight_decay >= 0, f"weight_decay must not be negative, got {spec.weight_decay}"),
        (spec.max_length >= 2, f"max_length must be at least 2 tokens, got {spec.max_length}"),
        (spec.dtype in ("float32", "bfloat16"), f"dtype must be float32 or bfloat16, got {spec.dtype!r}"),
    )
    check_mixture(spec.sources)
    if spec.lora is not None:
        _check_lora(spec.lora)


def check_mixture(sources: tuple[Source, ...]) -> None:
    """Refuse a mixture that is empty, does not sum to one or names files that are not there.

    Raises:
        InputError: naming the source, its value and the remedy.
    """
    _hold((bool(sources), "the mixture is empty; name at least one data source"))
    for source in sources:
        _hold(
            (
                0 < source.probability <= 1,
                f"the probability of {source.name!r} must be above 0 and at most 1, got {source.probability}",
            )
        )
        for file in source.files:
            if "://" not in file and not Path(file).is_file():
                raise InputError(f"data source {source.name!r}: there is no file {file}")
    total = sum(source.probability for source in sources)
    if abs(total - 1) > 1e-6:
        shares = ", ".join(f"{source.name} {source.probability:g}" for source in sources)
        raise InputError(f"the probabilities of a mixture must sum to 1, got {total:g} ({shares})")


def check_placement(placement: Placement, batch: int, workers: int = 1) -> None:
    """Refuse a layout that cannot hold: over these workers, with what is installed.

    Args:
        placement: the layout.
        batch: sequences per optimizer step.
        workers: of the training.

    Raises:
        InputError: naming the setting, its value and the remedy.
    """
    share = batch // workers
    _hold(
        (batch % workers == 0, f"batch {batch} does not divide by {workers} workers; make it a multiple"),
        (placement.zero in (0, 1, 2, 3), f"zero must be 0, 1, 2 or 3, got {placement.zero}"),
        (
            placement.zero > 0 or not placement.offload or placement.deepspeed is not None,
            "offload needs ZeRO stage 1, 2 or 3, got zero 0",
        ),
        (placement.save_every >= 0, f"save_every must not be negative, got {placement.save_every}; 0 means never"),
        (
            placement.micro_batch >= 0,
            f"micro_batch must not be negative, got {placement.micro_batch}; 0 means a worker's whole share",
        ),
    )
    if placement.micro_batch and share % placement.micro_batch:
        raise InputError(
            f"micro_batch {placement.micro_batch} does not divide a worker's share of the batch ({share} = {batch} "
            f"over {workers}); choose one of {', '.join(str(n) for n in range(1, share + 1) if share % n == 0)}"
        )
    for tracker in placement.report_to:
        if tracker not in TRACKERS:
            raise InputError(f"report_to cannot be {tracker!r}; it can be {', '.join(TRACKERS)}")
        packages = TRACKERS[tracker]
        if not any(importlib.util.find_spec(package) for package in packages):
            raise InputError(f"report_to {tracker} needs the package {packages[0]}; pip install {packages[0]}")


def check_lora_targets(targets: tuple[str, ...], modules: tuple[str, ...]) -> None:
    """Refuse targets that are the ending of no module's name.

    Args:
        targets: of `Lora`.
        modules: names of the model's modules (names of its tensors without ``.weight``).

    Raises:
        InputError: naming the target and the endings that there are.
    """
    for target in targets:
        if not any(module == target or module.endswith(f".{target}") for module in modules):
            endings = dict.fromkeys(name.rpartition(".")[2] for name in modules if name and not name[-1].isdigit())
            raise InputError(
                f"no module of the model ends in {target!r} (lora.targets); there are {', '.join(endings)}"
            )


def _check_lora(lora: Lora) -> None:
    _hold(
        (lora.r >= 1, f"r of lora must be at least 1, got {lora.r}"),
        (lora.alpha > 0, f"alpha of lora must be above 0, got {lora.alpha}"),
        (0 <= lora.dropout < 1, f"dropout of lora must be in [0, 1), got {lora.dropout}"),
    )


def _hold(*rules: tuple[bool, str]) -> None:
    for holds, message in rules:
        if not holds:
            raise InputError(message)
