"""A judge held against people's labels: how often it is right, by language, and what its rates stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._errors import InputError, some
from .._items import load_items
from .._stats import interval, score_of
from .._types import Item, Score
from ..judge_harm import FORM as HARM
from ..judge_harm import HARMFUL, JudgeHarm
from ..judge_winrate import FORM as WINRATE
from ..judge_winrate import JudgeWinrate
from .agreement import Agreement, agreement
from .tallies import Pair, PositionBias, is_consistent, outcomes, position_bias

LEVEL = 0.95
HARM_COLUMNS = {"answer": "response", "task": "label"}
PAIR_COLUMNS = {"answer": "first", "tests": "second", "task": "label"}
"""Our column of an item -> the column of a labelled file."""


@dataclass(frozen=True)
class Rate:
    """A share of items with its 95 % interval, the number of items, and how many independent ones say as much."""

    value: float
    low: float
    high: float
    n: int
    size: float


@dataclass(frozen=True)
class Measured:
    """What a judge does on labelled items of one language, or of all.

    Attributes:
        language: code; "" for all.
        accuracy: share of votes that are the label.
        sensitivity: share of votes for harmful where the label is; None without such items, and for pairs.
        specificity: share of votes for harmless where the label is; None without such items, and for pairs.
    """

    language: str
    accuracy: Rate
    sensitivity: Rate | None
    specificity: Rate | None


@dataclass(frozen=True)
class Calibration:
    """A judge held against labels.

    Attributes:
        measured: over all languages, then by language.
        votes: agreement of the judge with itself; None with one vote for each item.
        bias: towards a place, for pairs; None for single answers.
        unjudged: items without a verdict: in a run each would fail its candidate.
        items: that were labelled.
    """

    measured: tuple[Measured, ...]
    votes: Agreement | None
    bias: PositionBias | None
    unjudged: tuple[str, ...]
    items: int


def calibrate(evaluator: JudgeHarm | JudgeWinrate, file: Path, languages: Sequence[str]) -> Calibration:
    """Ask a judge about labelled items, as its evaluator would.

    Columns for `judge_harm`: prompt, response, language, label (harmful or harmless); for `judge_winrate`: prompt,
    first, second, language, label (first, second or tie). Optional: id, and group for items that are not independent.

    Raises:
        InputError: a file that is no such thing.
        Unavailable: the judge is out of reach.
    """
    if isinstance(evaluator, JudgeHarm):
        items = _labelled(file, HARM_COLUMNS, HARM.choices, languages)
        votes = evaluator.votes(items, [item.answer for item in items], lenient=True)
        judged = [(item, row) for item, row in zip(items, votes, strict=True) if row]
        right = [row.count(item.task) / len(row) for item, row in judged]
        bias = None
    else:
        items = _labelled(file, PAIR_COLUMNS, WINRATE.choices, languages)
        pairs = evaluator.votes(items, [(item.answer, item.tests) for item in items], lenient=True)
        whole = [(item, pair) for item, pair in zip(items, pairs, strict=True) if pair[0] and pair[1]]
        judged = [(item, outcomes(pair)) for item, pair in whole]
        right = [row.count(item.task) / len(row) for item, row in judged]
        bias = _bias([pair for _, pair in whole])
    kept = [item for item, _ in judged]
    left = {item.id for item in kept}
    unjudged = tuple(item.id for item in items if item.id not in left)
    if not kept:
        raise InputError(f"{file}: the judge gave none of {len(items)} items a verdict: {some(unjudged)}")
    form = HARM if isinstance(evaluator, JudgeHarm) else WINRATE
    rows = [row for _, row in judged]
    several = any(len(row) > 1 for row in rows)
    same = agreement(rows, form.choices, [item.group for item in kept]) if several else None
    present = [language for language in languages if any(item.language == language for item in kept)]
    measured = tuple(_measured(language, kept, right, form is HARM) for language in ("", *present))
    return Calibration(measured, same, bias, unjudged, len(items))


def corrected(observed: Score, sensitivity: Rate, specificity: Rate, groups: int) -> tuple[float, float, float] | None:
    """The true share behind the one that a judge states, with a 95 % interval.

        true = (observed + specificity - 1) / (sensitivity + specificity - 1)

    Rogan and Gladen 1978 (doi:10.1093/oxfordjournals.aje.a112510); interval of Lang and Reiczigel 2014
    (doi:10.1016/j.prevetmed.2013.09.015), with effective sample sizes where items come in groups. It holds as far as
    the labelled items are like those that were scored.

    Args:
        observed: share that the judge labels harmful, with its error.
        sensitivity: of the judge, on labelled items.
        specificity: of the judge, on labelled items.
        groups: of the items of `observed`.

    Returns:
        (value, low, high), each in [0, 1]; None for a judge that is no better than chance.
    """
    if sensitivity.value + specificity.value <= 1:
        return None
    z2 = 1.959963984540054**2
    p = min(max(observed.value, 0.0), 1.0)
    size = _size(observed, groups)
    value = (p + specificity.value - 1) / (sensitivity.value + specificity.value - 1)
    n, n1, n0 = size + z2, sensitivity.size + 2, specificity.size + 2
    p = (size * p + z2 / 2) / n
    hit = (sensitivity.size * sensitivity.value + 1) / n1
    pass_ = (specificity.size * specificity.value + 1) / n0
    youden = hit + pass_ - 1
    centre = (p + pass_ - 1) / youden
    seen, missed = hit * (1 - hit) / n1, pass_ * (1 - pass_) / n0
    shift = 2 * z2 * (centre * seen - (1 - centre) * missed)
    half = math.sqrt(z2 * (p * (1 - p) / n + centre**2 * seen + (1 - centre) ** 2 * missed)) / youden
    low, high = centre + shift - half, centre + shift + half
    return tuple(min(max(end, 0.0), 1.0) for end in (value, low, high))  # type: ignore[return-value]


def _labelled(file: Path, columns: dict[str, str], labels: Sequence[str], languages: Sequence[str]) -> list[Item]:
    source = {"path": "csv" if file.suffix == ".csv" else "json", "files": [str(file)], "columns": columns}
    items = load_items(source, languages)
    for item in items:
        if item.task not in labels:
            raise InputError(f"{file}: item {item.id}: label {item.task!r} is none of {', '.join(labels)}")
    bare = [item.id for item in items if not item.answer.strip() or ("tests" in columns and not item.tests.strip())]
    if bare:
        raise InputError(f"{file}: {len(bare)} of {len(items)} items have an empty response: {some(bare)}; remove them")
    return list(items)


def _bias(pairs: Sequence[Pair]) -> PositionBias | None:
    counts = {"pairs": len(pairs), "consistent pairs": sum(map(is_consistent, pairs))}
    for vote in WINRATE.choices:
        counts[f"vote {vote}"] = sum(votes.count(vote) for pair in pairs for votes in pair)
    return position_bias(counts)


def _measured(language: str, items: Sequence[Item], right: Sequence[float], harm: bool) -> Measured:
    rows = [index for index, item in enumerate(items) if language in ("", item.language)]
    accuracy = _rate(items, right, rows)
    assert accuracy is not None
    if not harm:
        return Measured(language, accuracy, None, None)
    positive = [row for row in rows if items[row].task == HARMFUL]
    negative = [row for row in rows if items[row].task != HARMFUL]
    return Measured(language, accuracy, _rate(items, right, positive), _rate(items, right, negative))


def _rate(items: Sequence[Item], right: Sequence[float], rows: Sequence[int]) -> Rate | None:
    if not rows:
        return None
    values, groups = np.array([right[row] for row in rows]), [items[row].group for row in rows]
    low, high = interval(values, groups, level=LEVEL)
    score = score_of(values, groups)
    return Rate(score.value, low, high, len(rows), _size(score, len(set(groups))))


def _size(score: Score, groups: int) -> float:
    """Independent items that would give a share this error; the number of groups where no error is seen."""
    p = min(max(score.value, 0.0), 1.0)
    return p * (1 - p) / score.stderr**2 if score.stderr > 0 and 0 < p < 1 else float(groups)
