"""The trainers that a recipe can name: the public files of this folder. Imports no torch."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

from ._errors import InputError
from ._types import TrainSpec

Report = Callable[[Mapping[str, float]], None]
"""Called by every worker after every optimizer step with the same keys: see ``trainers.sft``."""


class Trainer(Protocol):
    """The body of every worker of one training."""

    def __call__(self, spec: TrainSpec, *, out: str, work: str, report: Report, threads: int | None = None) -> None:
        """Train `spec`; rank 0 leaves the directory `out`, complete or not at all.

        Args:
            spec: what to train.
            out: directory of the result; a complete one is left as it is and nothing is trained.
            work: directory for checkpoints to resume from; shared by the workers and kept by the caller.
            report: receives the step counter, the loss and the rates.
            threads: CPU threads of this worker; OMP_NUM_THREADS by default, or one.
        """


def trainer_names() -> tuple[str, ...]:
    """Names of the trainers in this folder, sorted."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")))


def load_trainer(name: str) -> Trainer:
    """The trainer called `name`: a file of this folder, or ``package.module:function`` outside.

    Raises:
        InputError: no such trainer; the text names the nearest one.
    """
    if ":" in name:
        module_name, _, function = name.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), function)
        except (ImportError, AttributeError) as error:
            raise InputError(f"trainer {name!r} cannot be imported: {error}") from error
        if not callable(found):
            raise InputError(f"trainer {name!r} is not a function")
        return cast(Trainer, found)
    if name not in trainer_names():
        near = difflib.get_close_matches(name, trainer_names(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(trainer_names())}"
        raise InputError(f"there is no trainer {name!r}; {hint}")
    return cast(Trainer, getattr(importlib.import_module(f"{__package__}.{name}"), name))
