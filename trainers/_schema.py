"""The trainers that a recipe can name, and what each takes: the folder and the signatures say, nothing else.

Imports neither torch nor Ray: a recipe is checked on a laptop.
"""

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_type_hints

from ._errors import InputError
from ._types import DEFAULT, Choice, Columns, Function, Placement, Range, TrainSpec, Value

Report = Callable[[Mapping[str, float]], None]
"""Called by every worker after every optimizer step with the same keys: see ``trainers.sft``."""

COMMON = ("spec", "out", "work", "report", "placement", "threads")
"""Arguments that all trainers share; the other keywords are a trainer's options."""


class Trainer(Protocol):
    """The body of every worker of one training."""

    def __call__(
        self,
        spec: TrainSpec,
        *,
        out: str,
        work: str,
        report: Report,
        placement: Placement = ...,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        """Train `spec`; rank 0 leaves the directory `out`, complete or not at all.

        Args:
            spec: what to train.
            out: directory of the result; a complete one is left as it is and nothing is trained.
            work: directory for checkpoints to resume from; shared by the workers and kept by the caller.
            report: receives the step counter, the loss and the rates.
            placement: how it is laid out on the workers.
            threads: CPU threads of this worker; OMP_NUM_THREADS by default, or one.
            options: the trainer's own settings.
        """


@dataclass(frozen=True)
class Option:
    """One setting that a trainer has of its own.

    Attributes:
        name: keyword of the trainer's function.
        kind: of its values; ``function`` is a text ``package.module:function``.
        low: smallest valid number (-inf: unbounded).
        high: largest valid number (inf: unbounded).
        open_low: `low` itself is not valid.
        choices: the words that a text may be; empty otherwise.
        default: None if it is required.
        required: whether it must be given.
    """

    name: str
    kind: Literal["float", "int", "bool", "text", "function"]
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    choices: tuple[str, ...] = ()
    default: Value | None = None
    required: bool = False

    @property
    def rule(self) -> str:
        """What a value must be, in words."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "text":
            return " or ".join(self.choices)
        if self.kind == "function":
            return "a function, written package.module:function"
        kind = "a whole number" if self.kind == "int" else "a number"
        bounds = [f"{'above' if self.open_low else 'at least'} {self.low:,}"] if self.low > -math.inf else []
        bounds += [f"at most {self.high:,}"] if self.high < math.inf else []
        return " ".join([kind, " and ".join(bounds)]).strip()


def trainer_names() -> tuple[str, ...]:
    """Names of the trainers in this folder, sorted."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")))


def load_trainer(name: str) -> Trainer:
    """The trainer called `name`: a file of this folder, or ``package.module:function`` outside.

    Raises:
        InputError: no such trainer; the text names the nearest one.
    """
    if ":" in name:
        return cast(Trainer, load_function(name, f"trainer {name!r}"))
    if name not in trainer_names():
        raise InputError(f"there is no trainer {name!r}; {_nearest(name, trainer_names())}")
    return cast(Trainer, getattr(importlib.import_module(f"{__package__}.{name}"), name))


def load_function(name: str, what: str) -> Callable[..., Any]:
    """The function ``package.module:function``; `what` begins the sentence if there is none.

    Raises:
        InputError: not of that form, not importable, not a function.
    """
    module_name, colon, function = name.partition(":")
    if not colon or not function.isidentifier():
        raise InputError(f"{what} must be written package.module:function, got {name!r}")
    try:
        found = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what} cannot be imported: {error}; is it on PYTHONPATH?") from error
    if not callable(found):
        raise InputError(f"{what} is not a function")
    return cast(Callable[..., Any], found)


def options_of(name: str) -> tuple[Option, ...]:
    """The options of trainer `name`, read from its signature, in its order.

    Raises:
        InputError: no such trainer, or one whose signature does not state its bounds.
    """
    function = load_trainer(name)
    hints = get_type_hints(function, include_extras=True)
    return tuple(
        _option(name, argument, hints.get(argument.name))
        for argument in inspect.signature(function).parameters.values()
        if argument.name not in COMMON and argument.kind is not argument.VAR_KEYWORD
    )


def columns_of(name: str) -> Columns:
    """What the data of trainer `name` must hold; prompt and response for a trainer from outside that does not say.

    Raises:
        InputError: no such trainer.
    """
    module = importlib.import_module(load_trainer(name).__module__)
    return cast(Columns, getattr(module, "COLUMNS", Columns((("prompt", "response"),))))


def check_options(name: str, given: Mapping[str, Any]) -> tuple[tuple[str, Value], ...]:
    """`given`, checked and completed with defaults, in the order of the trainer's signature: ``TrainSpec.options``.

    Raises:
        InputError: unknown, missing or invalid option: the rule, the value, the remedy.
    """
    known = options_of(name)
    names = tuple(option.name for option in known)
    for key in given:
        if key not in names:
            has = _nearest(key, names) if names else "it has none of its own"
            raise InputError(f"the trainer {name} has no option {key!r}; {has}")
    found: list[tuple[str, Value]] = []
    for option in known:
        if option.name in given:
            found.append((option.name, _checked(name, option, given[option.name])))
        elif option.required:
            raise InputError(f"the trainer {name} needs the option {option.name!r}: {option.rule}")
        elif option.default is not None:
            found.append((option.name, option.default))
    return tuple(found)


def run_trainer(
    name: str,
    spec: TrainSpec,
    *,
    out: str,
    work: str,
    report: Report,
    placement: Placement = DEFAULT,
    threads: int | None = None,
) -> None:
    """Train `spec` with the trainer `name`; see `Trainer`.

    Raises:
        InputError: as `load_trainer` and `check_options`, and whatever the trainer refuses.
    """
    options = dict(check_options(name, dict(spec.options)))
    load_trainer(name)(spec, out=out, work=work, report=report, placement=placement, threads=threads, **options)


def _option(trainer: str, argument: inspect.Parameter, hint: Any) -> Option:
    required = argument.default is argument.empty
    shared: dict[str, Any] = {
        "name": argument.name,
        "default": None if required else argument.default,
        "required": required,
    }
    plain = getattr(hint, "__origin__", hint)
    if plain is bool:
        return Option(kind="bool", **shared)
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, Choice):
            return Option(kind="text", choices=note.options, **shared)
        if isinstance(note, Function):
            return Option(kind="function", **shared)
        if isinstance(note, Range):
            kind: Literal["int", "float"] = "int" if plain is int else "float"
            return Option(kind=kind, low=note.low, high=note.high, open_low=note.open_low, **shared)
    raise InputError(f"trainer {trainer!r}: option {argument.name!r} needs bounds; annotate Range, Choice or Function")


def _checked(trainer: str, option: Option, value: Any) -> Value:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    above = number and (value > option.low if option.open_low else value >= option.low)
    good = {
        "bool": isinstance(value, bool),
        "text": value in option.choices,
        "function": isinstance(value, str),
        "int": above and value <= option.high and value == int(value if number else 0),
        "float": above and value <= option.high,
    }[option.kind]
    if not good:
        raise InputError(f"{option.name} of the trainer {trainer} must be {option.rule}, got {value!r}")
    if option.kind == "function":
        load_function(value, f"{option.name} of the trainer {trainer}")
    if option.kind in ("int", "float"):
        return int(value) if option.kind == "int" else float(value)
    return cast(Value, value)


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
