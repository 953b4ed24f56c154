"""What `mergefront.search` was asked, as a value: checked once, and compared with what a storage holds."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators._types import Score
from search import stopping
from search._recipe import constraints as texts
from search._recipe.constraints import Constraint, margin
from search.errors import Problem, UserError, nearest, shown
from search.stopping import RuleError, Rules
from search.store import Scores, Store

from .call import Call
from .database import MEMORY
from .proposals import Observation, Proposals, Values, proposals
from .subject import Candidate

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from search.samplers import Problem as Searched

CANDIDATE_TIME_S = 4 * 3600.0
CONSTRAINT = 'write it as "NAME <= 0.3" or "NAME >= 0.3"'
BOX = 'write (low, high), (low, high, "log") or a list of choices'


@dataclass(frozen=True)
class Box:
    """A number in [low, high], on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Question:
    """A search of a function, ready to run; rows keep a choice by its place in the list.

    Attributes:
        space: name -> box or choices, in the caller's order.
        objectives: name -> "max" or "min".
        constraints: hard bounds.
        rules: when to stop.
        candidate_time: limit of one call, seconds.
        sampler: by name.
        seed: of the sampler.
        stages: items of the first stage, and all items; empty: every point is scored in one call.
    """

    space: Mapping[str, Box | tuple[Any, ...]]
    objectives: Mapping[str, str]
    constraints: tuple[Constraint, ...]
    rules: Rules
    candidate_time: float
    sampler: str
    seed: int
    stages: tuple[int, ...] = ()

    def candidate(self, values: Values) -> Candidate:
        """What is scored for a sampler's values."""
        key = hashlib.sha256(json.dumps(list(values.items())).encode()).hexdigest()[:24]
        return Candidate(key, "", {}, Call(self.params(values)), kind="point")

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A sampler's values as the caller's parameters: choices in place of their numbers, fixed ones added."""
        found: dict[str, Any] = {}
        for name, dimension in self.space.items():
            if isinstance(dimension, Box):
                found[name] = values.get(name, dimension.low)
            else:
                found[name] = dimension[values.get(name, 0)]
        return found

    def free(self) -> dict[str, BaseDistribution]:
        """The dimensions that hold more than one value."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, BaseDistribution] = {}
        for name, dimension in self.space.items():
            if isinstance(dimension, tuple):
                if len(dimension) > 1:
                    found[name] = CategoricalDistribution(range(len(dimension)))
            elif dimension.low < dimension.high:
                found[name] = FloatDistribution(dimension.low, dimension.high, log=dimension.log)
        return found

    def problem(self, free: Mapping[str, BaseDistribution]) -> Searched:
        """What a sampler is asked about, over `free` dimensions."""
        from search.samplers import Problem as Searched
        from search.samplers._optuna import levels_of

        return Searched(len(free), tuple(self.objectives.values()), levels=levels_of(free))

    def proposals(self) -> Proposals:
        """The sampler, over the dimensions that hold more than one value."""
        free = self.free()
        return proposals(self.sampler, self.problem(free), free, self.seed)

    def scores(self, result: Any, items: int = 1) -> Scores:
        """What a call returned, as scores over so many items.

        Raises:
            ValueError: not what it must return; one line.
        """
        wanted = tuple(dict.fromkeys([*self.objectives, *(c.score.evaluator for c in self.constraints)]))
        if not isinstance(result, Mapping):
            raise ValueError(f"score returned {shown(result)}; it must return a mapping with {', '.join(wanted)}")
        missing = [name for name in wanted if name not in result]
        if missing:
            near = nearest(missing[0], [str(name) for name in result if name not in wanted])
            hint = f"; did it mean {near!r}?" if near else ""
            raise ValueError(f"score returned no {', '.join(map(repr, missing))}{hint}")
        return {(str(name), ""): Score(*_value(str(name), value), items) for name, value in result.items()}

    def violations(self, scores: Scores) -> dict[str, float]:
        """Constraint -> how far the scores are on its wrong side; <= 0 keeps it."""
        return {str(c): margin(c, scores[c.score.evaluator, ""].value, 0.0) for c in self.constraints}

    def observation(self, scores: Scores) -> Observation:
        """Scores as the sampler is told of them."""
        found = [scores[name, ""] for name in self.objectives]
        values, stderr = tuple(score.value for score in found), tuple(score.stderr for score in found)
        return Observation(values, stderr, self.violations(scores))

    def identity(self) -> dict[str, Any]:
        """All that a study's sequence of points depends on, but the function itself; JSON."""
        space = {
            name: ["choices", *map(repr, dimension)]
            if isinstance(dimension, tuple)
            else [dimension.low, dimension.high, *(["log"] if dimension.log else [])]
            for name, dimension in self.space.items()
        }
        return {
            "space": space,
            "objectives": dict(self.objectives),
            "constraints": [str(constraint) for constraint in self.constraints],
            "sampler": self.sampler,
            "seed": self.seed,
            **({"stages": list(self.stages)} if self.stages else {}),
        }


def question(space: Any, objectives: Any, constraints: Any, budget: Any, sampler: str, seed: int) -> Question:
    """The arguments of `mergefront.search`, checked.

    Raises:
        UserError: with every problem found.
    """
    problems: list[Problem] = []
    rules, candidate_time, stages = _budget(budget, problems)
    found = Question(
        _space(space, problems),
        _objectives(objectives, problems),
        _constraints(constraints, problems),
        rules,
        candidate_time,
        sampler,
        seed,
        stages,
    )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        problems.append(_problem("seed", "must be a whole number from 0 to 4294967295", seed))
    try:
        from search.samplers import load_sampler

        load_sampler(sampler)
    except (ValueError, TypeError) as error:
        problems.append(_problem("sampler", str(error)))
    if problems:
        raise UserError(problems)
    return found


def place(storage: Any) -> str | Path:
    """Where `storage` is: a file, the study.db of a folder, a URL, or memory.

    Raises:
        UserError: neither text nor a path.
    """
    if storage is None:
        return MEMORY
    if isinstance(storage, str) and "://" in storage:
        return storage
    if not isinstance(storage, str | Path) or not str(storage):
        raise UserError(_problem("storage", "must be a file or a database URL", storage))
    path = Path(storage)
    return path / "study.db" if path.is_dir() else path


def same_question(store: Store, question: Question) -> None:
    """Keep what is asked in a new study; refuse one that was asked something else.

    Raises:
        UserError: naming the keys that differ.
    """
    new, old = question.identity(), store.get("question")
    if old is None:
        if store.points():
            remedy = "name another storage; `mergefront run` works on it"
            raise UserError(Problem(str(store), None, "storage", "holds the study of a run", None, remedy))
        store.put("question", new)
        return
    changed: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        if key not in old or key not in new:
            changed.append(key)
        elif isinstance(new[key], dict):
            names = dict.fromkeys([*old[key], *new[key]])
            changed += [f"{key}.{name}" for name in names if old[key].get(name) != new[key].get(name)]
            if old[key] == new[key] and list(old[key]) != list(new[key]):
                changed.append(f"{key} (their order)")
        elif old[key] != new[key]:
            changed.append(key)
    if changed:
        rule = f"holds another study; these differ: {', '.join(changed)}"
        remedy = "put them back, or name another storage"
        raise UserError(Problem(str(store), None, "storage", rule, None, remedy))


def _value(name: str, value: Any) -> tuple[float, float]:
    """A returned value as (value, standard error)."""
    parts = tuple(value) if isinstance(value, tuple | list) else (value, 0.0)
    if len(parts) != 2:
        raise ValueError(f"{name}: {len(parts)} numbers; return a value, or (value, standard error)")
    found = []
    for part in parts:
        if isinstance(part, bool | str) or not (isinstance(part, numbers.Real) or hasattr(part, "__float__")):
            raise ValueError(f"{name}: {shown(part)} is no number")
        try:
            found.append(float(part))
        except (TypeError, ValueError) as error:  # an array of several numbers
            raise ValueError(f"{name}: {error}") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{name}: a value must be finite, got {found[0]:g} with standard error {found[1]:g}")
    if found[1] < 0:
        raise ValueError(f"{name}: a standard error must be at least 0, got {found[1]:g}")
    return found[0], found[1]


def _problem(key: str, rule: str, *value: Any, remedy: str = "") -> Problem:
    return Problem("", None, key, rule, shown(value[0]) if value else None, remedy)


def _space(space: Any, problems: list[Problem]) -> dict[str, Box | tuple[Any, ...]]:
    if not isinstance(space, Mapping) or not space:
        problems.append(_problem("space", "must name at least one parameter", space, remedy=BOX))
        return {}
    found: dict[str, Box | tuple[Any, ...]] = {}
    for name, given in space.items():
        key = f"space.{name}"
        if isinstance(given, list):
            found[name] = tuple(given)
            if not given:
                problems.append(_problem(key, "must have at least one choice", given))
            continue
        ends = given[:2] if isinstance(given, tuple) and (len(given) == 2 or given[2:] == ("log",)) else ()
        if len(ends) != 2 or not all(isinstance(end, numbers.Real) and not isinstance(end, bool) for end in ends):
            problems.append(_problem(key, "must be a range or a list", given, remedy=BOX))
            continue
        low, high, log = float(ends[0]), float(ends[1]), len(given) == 3
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            problems.append(_problem(key, "must be finite, low first", given))
        elif log and low <= 0:
            problems.append(_problem(key, "a logarithmic range must be above 0", given))
        else:
            found[name] = Box(low, high, log)
    if not all(isinstance(name, str) for name in space):
        problems.append(_problem("space", "names must be text", list(space)))
    return found


def _objectives(objectives: Any, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(objectives, Mapping) or not objectives:
        problems.append(_problem("objectives", "must name at least one", objectives, remedy='write {"NAME": "max"}'))
        return {}
    for name, way in objectives.items():
        if way not in ("max", "min"):
            problems.append(_problem(f"objectives.{name}", "must be max or min", way))
    return {str(name): str(way) for name, way in objectives.items()}


def _constraints(given: Any, problems: list[Problem]) -> tuple[Constraint, ...]:
    listed: Sequence[Any] = [given] if isinstance(given, str) else given
    found = []
    for index, text in enumerate(listed):
        key = f"constraints[{index}]"
        try:
            constraint = texts.parse(text)
        except texts.ConstraintError as error:
            problems.append(_problem(key, error.rule, text, remedy=CONSTRAINT))
            continue
        except (TypeError, AttributeError):
            problems.append(_problem(key, "a constraint is text", text, remedy=CONSTRAINT))
            continue
        if constraint.relative is not None or constraint.score.kind != "mean":
            rule = "a function has neither a base nor languages"
            problems.append(_problem(key, rule, text, remedy=CONSTRAINT))
        found.append(constraint)
    return tuple(found)


def _budget(budget: Any, problems: list[Problem]) -> tuple[Rules, float, tuple[int, ...]]:
    limit, rest = CANDIDATE_TIME_S, budget
    stages: tuple[int, ...] = ()
    try:
        if isinstance(budget, Mapping):
            rest = {name: value for name, value in budget.items() if name not in ("candidate_time", "stages")}
            limit = stopping.duration(budget.get("candidate_time", CANDIDATE_TIME_S), "candidate_time")
            stages = _stages(budget["stages"]) if "stages" in budget else ()
            for name in ("items", "tokens"):
                if name in rest:
                    rule = f"a function does not say how many {name} it used"
                    raise RuleError(name, rule, "state `cost` or `wall_time`")
        return stopping.rules_of(rest), limit, stages
    except RuleError as error:
        key = f"budget.{error.key}" if error.key else "budget"
        value = () if error.value is None else (error.value,)
        problems.append(_problem(key, error.rule, *value, remedy=error.remedy))
        return Rules(candidates=1), limit, ()


def _stages(given: Any) -> tuple[int, ...]:
    whole = isinstance(given, list | tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in given)
    if not whole or len(given) != 2 or not 0 < given[0] < given[1]:
        remedy = 'write "stages": [100, 500]: the first 100 of 500 items, then all'
        raise RuleError("stages", "must be two whole numbers above 0 that rise", remedy, given)
    return tuple(given)
