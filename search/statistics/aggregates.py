"""One number from an evaluator's scores by language: all items together, the worst language, the worst few.

An objective or the left side of a constraint is such an aggregate. Its text is its name on the front, in tables and in
picks: `general`, `min_language(general)`, `max_language(over_refusal)`, `cvar(general, 0.3)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from evaluators._types import Score
from search.errors import suggestion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Kind = Literal["mean", "min_language", "max_language", "cvar"]
KINDS: tuple[Kind, ...] = ("mean", "min_language", "max_language", "cvar")
EXAMPLE = 'write it as "NAME", "min_language(NAME)" or "cvar(NAME, 0.3)"'
QUOTED = 'quote it: "cvar(NAME, 0.3)"; inside { } and [ ] YAML splits at a comma'
DRAWS = 4096  # the standard error of a standard error is then 1 %

_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_NAME = rf"(?!{_NUMBER}(?:[\s,)]|$))\w[\w.-]*"
_TEXT = re.compile(
    rf"(?:(?P<kind>{_NAME})\s*\(\s*(?P<inner>{_NAME})\s*(?:,\s*(?P<share>{_NUMBER})\s*)?\)|(?P<name>{_NAME}))"
)


@dataclass(frozen=True)
class Aggregate:
    """A number made of one evaluator's scores.

    Attributes:
        kind: `mean` of all items; `min_language`, `max_language`: the lowest or highest of the languages' scores;
            `cvar`: the mean of the worst languages' scores.
        evaluator: the recipe's name of it.
        share: of the languages that count as the worst, in (0, 1]; of `cvar` alone.
    """

    kind: Kind
    evaluator: str
    share: float = 1.0

    def __str__(self) -> str:
        """The canonical text; `parse(str(aggregate)) == aggregate`."""
        if self.kind == "mean":
            return self.evaluator
        return f"{self.kind}({self.evaluator}{f', {self.share!r}' if self.kind == 'cvar' else ''})"


class AggregateError(ValueError):
    """The text is no aggregate. `rule` and `remedy` say why and what to write."""

    def __init__(self, rule: str, remedy: str = EXAMPLE):
        super().__init__(rule, remedy)
        self.rule, self.remedy = rule, remedy


@lru_cache(maxsize=1024)
def parse(text: str) -> Aggregate:
    """Read one aggregate; `mean(NAME)` is NAME.

    Raises:
        AggregateError: not of a form above, an unknown kind, a share out of (0, 1] or where none belongs.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise AggregateError(f"cannot read '{text.strip()}'")
    if found["name"] is not None:
        return Aggregate("mean", found["name"])
    share = found["share"]
    kind = next((kind for kind in KINDS if kind == found["kind"]), None)
    if kind is None:
        raise AggregateError(f"unknown aggregate '{found['kind']}'", suggestion(found["kind"], KINDS))
    if kind != "cvar":
        if share is not None:
            raise AggregateError(f"{kind} takes an evaluator alone", f"write {kind}({found['inner']})")
        return Aggregate(kind, found["inner"])
    if share is None or not 0.0 < float(share) <= 1.0:
        rule = "cvar takes an evaluator and a share of the languages above 0 and at most 1"
        raise AggregateError(rule, f"write cvar({found['inner']}, 0.3) for the worst 30 %")
    return Aggregate("cvar", found["inner"], float(share))


def canonical(text: str) -> str:
    """`text` as the front calls it; what is no aggregate comes back as it is."""
    try:
        return str(parse(text))
    except AggregateError:
        return text


def safety(objectives: Iterable[str]) -> str | None:
    """The objective that the pick `safest` means: `safety`, else the first aggregate of it, else None."""
    names = tuple(objectives)
    if "safety" in names:
        return "safety"
    return next((name for name in names if "(" in name and parse(name).evaluator == "safety"), None)


def objective_scores(objectives: Mapping[str, str], scores: Mapping[tuple[str, str], Score]) -> dict[str, Score]:
    """The score of a point on each objective, in the objectives' order.

    Args:
        objectives: text of an aggregate -> "max" or "min".
        scores: (evaluator, language) -> score; language "" is the score over all items.
    """
    return {name: score(parse(name), scores, way == "max") for name, way in objectives.items()}


def completed(objectives: Mapping[str, str], scores: Mapping[tuple[str, str], Score]) -> dict[tuple[str, str], Score]:
    """`scores`, and under (text, "") those of the objectives that are aggregates over languages."""
    return {**scores, **{(name, ""): one for name, one in objective_scores(objectives, scores).items()}}


def value(aggregate: Aggregate, scores: Mapping[tuple[str, str], Score], larger_is_better: bool) -> float:
    """`score(...).value`, without the work that its standard error takes."""
    found = _by_language(aggregate, scores)
    if not found:
        return scores[aggregate.evaluator, ""].value
    import numpy as np

    return float(reduced(aggregate, np.array([[one.value for one in found]]), larger_is_better)[0])


def score(aggregate: Aggregate, scores: Mapping[tuple[str, str], Score], larger_is_better: bool) -> Score:
    """Value and standard error of an aggregate from scores by language.

    The error of an aggregate over languages is its spread over draws of the languages' scores: normal, with their own
    standard errors, and correlated alike. The correlation is the one that explains the standard error of the score over
    all items: items that share a template across languages stand or fall together, and treating languages as
    independent would promise too much. A draw in which another language is the worst one counts as it should, which no
    derivative at the measured scores would tell. Where there is no score by language, that over all items stands.

    The error says how far the value would move on other items, as that of any score, and so is what two models are
    compared by. It does not say that the lowest of noisy scores is too low; the interval does (`intervals`).

    Args:
        aggregate: which.
        scores: (evaluator, language) -> score.
        larger_is_better: which languages are the worst, for `cvar`.
    """
    overall = scores[aggregate.evaluator, ""]
    found = _by_language(aggregate, scores)
    if not found:
        return overall
    if len(found) == 1:
        return found[0]
    import numpy as np

    values = np.array([one.value for one in found])
    errors = np.array([one.stderr for one in found])
    drawn = reduced(aggregate, values + errors * noise(len(found), correlation(found, overall)), larger_is_better)
    exact = float(reduced(aggregate, values[None, :], larger_is_better)[0])
    return Score(exact, float(drawn.std(ddof=1)), overall.n)


def reduced(aggregate: Aggregate, values: Array, larger_is_better: bool) -> Array:
    """The aggregate of scores by language: (n, languages) -> (n,).

    CVaR as Rockafellar and Uryasev (2000, doi:10.21314/JOR.2000.038) have it for equally likely outcomes: the mean of
    the worst `share` of the languages, of which the last may count in part; with a share of one language or less the
    worst language, with a share of 1 the mean over languages. `mean` is not defined here: its languages count by their
    items.
    """
    import numpy as np

    if aggregate.kind == "min_language":
        return np.asarray(values.min(axis=1))
    if aggregate.kind == "max_language":
        return np.asarray(values.max(axis=1))
    assert aggregate.kind == "cvar", aggregate
    count = values.shape[1]
    wanted = max(1.0, aggregate.share * count)
    worst_first = np.sort(values if larger_is_better else -values, axis=1)
    mass = np.clip(wanted - np.arange(count), 0.0, 1.0)
    mean = worst_first @ mass / mass.sum()
    return np.asarray(mean if larger_is_better else -mean)


def parts(aggregate: Aggregate, scores: Mapping[tuple[str, str], Score]) -> tuple[Score, ...]:
    """The scores that an aggregate over several languages is made of, by language; none for a mean."""
    if aggregate.kind == "mean":
        return ()
    found = {language: one for (name, language), one in scores.items() if name == aggregate.evaluator and language}
    return tuple(found[language] for language in sorted(found)) if len(found) > 1 else ()


def order(aggregate: Aggregate, count: int, larger_is_better: bool) -> tuple[float, ...]:
    """Weights of `count` scores by language, from the lowest to the highest, whose sum is the aggregate."""
    import numpy as np

    # Of scores that are 0 below the k-th and 1 from it on, the aggregate is the sum of the weights from the k-th on.
    tails = reduced(aggregate, np.triu(np.ones((count, count))), larger_is_better)
    return tuple((tails - np.append(tails[1:], 0.0)).tolist())


def measured(aggregate: Aggregate, values: Array, languages: Sequence[str], larger_is_better: bool) -> Array:
    """The aggregate of per-item results: (n, items) -> (n,)."""
    import numpy as np

    if aggregate.kind == "mean":
        return np.asarray(values.mean(axis=1))
    spoken = np.asarray(languages)
    means = [values[:, spoken == language].mean(axis=1) for language in dict.fromkeys(languages)]
    return reduced(aggregate, np.column_stack(means), larger_is_better)


def _by_language(aggregate: Aggregate, scores: Mapping[tuple[str, str], Score]) -> list[Score]:
    """Scores of the languages, if the aggregate is over languages."""
    if aggregate.kind == "mean":
        return []
    return [one for (name, language), one in scores.items() if name == aggregate.evaluator and language]


def correlation(scores: Sequence[Score], overall: Score) -> float:
    """The one correlation of languages' scores that explains the standard error over all items, within [0, 1]."""
    items = sum(one.n for one in scores)
    parts = [one.n / items * one.stderr for one in scores]
    alone = sum(part * part for part in parts)
    between = sum(parts) ** 2 - alone
    return min(1.0, max(0.0, (overall.stderr**2 - alone) / between)) if between > 0 else 0.0


def noise(languages: int, common: float) -> Array:
    """Standard normal draws with one correlation, the same in every process: (DRAWS, languages)."""
    import numpy as np

    draws = _normals(languages)
    return np.asarray(math.sqrt(common) * draws[:, :1] + math.sqrt(1.0 - common) * draws[:, 1:])


@lru_cache(maxsize=8)
def _normals(languages: int) -> Any:
    """Standard normal numbers, the same in every process: one common to all languages, then one for each."""
    import numpy as np

    half = np.random.default_rng(20260101).standard_normal((DRAWS // 2, languages + 1))
    return np.concatenate([half, -half])
