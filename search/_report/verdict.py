"""What the data says, in words: who dominates whom beyond the noise, and how far the search was too hopeful.

A difference counts as one only outside two standard errors. Where the caller has paired differences (the same items
under both models) those are used; else the two standard errors are added in quadrature, which is the error of
independent scores and, for scores of the same items, errs on the careful side whenever the two rise and fall together.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["dominates", "ahead", "dominated", "behind", "mixed"]
Row = Mapping[str, Any]
Paired = Mapping[tuple[str, str], Mapping[str, tuple[float, float]]]
BOUND = 2.0


def paired_of(history: Mapping[str, Any]) -> Paired:
    """Paired differences of `history["paired"]`: entries `{"a", "b", "scores": {name: {"value", "stderr"}}}`, a - b.

    Returns:
        Each pair of ids, both ways round, to objective -> (difference of the values, standard error).
    """
    found: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for entry in history.get("paired") or []:
        for a, b, sign in ((entry["a"], entry["b"], 1.0), (entry["b"], entry["a"], -1.0)):
            found[str(a), str(b)] = {
                name: (sign * score["value"], score["stderr"])
                for name, score in entry["scores"].items()
                if score.get("value") is not None and score.get("stderr") is not None
            }
    return found


def _on_split(row: Row, split: str | None) -> Mapping[str, Any]:
    own = {name: score for name, score in row["scores"].items() if score["split"] == split}
    return own or {name: score for name, score in row["search"].items() if score["split"] == split}


def shared_split(a: Row, b: Row, objectives: Sequence[str]) -> str | None:
    """The split on which both rows hold every objective (the report split first), or None."""
    splits = dict.fromkeys(["report", *(s["split"] for s in (*a["scores"].values(), *b["scores"].values()))])
    for split in splits:
        if all(name in _on_split(row, split) for row in (a, b) for name in objectives):
            return str(split)
    return None


def compare(a: Row, b: Row, objectives: Mapping[str, str], paired: Paired) -> Outcome | None:
    """How `a` stands to `b` on the split that they share.

    Args:
        a: a row (see `rows_of`).
        b: another row.
        objectives: name -> "max" or "min".
        paired: known paired differences (see `paired_of`), used on the report split.

    Returns:
        "dominates": no worse in value on any objective, and better outside two standard errors on at least one;
        "ahead": no worse on any and better on some, all inside two standard errors; "dominated" and "behind" are the
        same the other way round; "mixed": each is better somewhere, or all values are equal; None: no common split.
    """
    split = shared_split(a, b, tuple(objectives))
    if split is None or not objectives:
        return None
    differences, clear = [], []
    for name, direction in objectives.items():
        gap, stderr = difference(a, b, name, split, paired)
        differences.append(gap if direction == "max" else -gap)
        clear.append(stderr is not None and abs(gap) > BOUND * stderr)
    if not any(differences):
        return "mixed"
    if min(differences) >= 0:
        return "dominates" if any(clear) else "ahead"
    if max(differences) <= 0:
        return "dominated" if any(clear) else "behind"
    return "mixed"


def difference(a: Row, b: Row, name: str, split: str, paired: Paired) -> tuple[float, float | None]:
    """`a` less `b` in one score on a split that both hold; its standard error, paired where known, None if unknown."""
    known = paired.get((a["id"], b["id"]), {}) if split == "report" else {}
    if name in known:
        return known[name]
    left, right = _on_split(a, split)[name], _on_split(b, split)[name]
    unknown = None in (left["se"], right["se"])
    return left["v"] - right["v"], None if unknown else math.hypot(left["se"], right["se"])


@dataclass(frozen=True)
class Standing:
    """How the merges stand to one model that was not merged.

    `splits` are the splits of the comparisons; the other fields hold labels of merges, in the order they were scored.
    """

    reference: Row
    compared: tuple[str, ...]
    splits: tuple[str, ...]
    front: tuple[str, ...]
    front_dominates: tuple[str, ...]
    front_ahead: tuple[str, ...]
    front_dominated: tuple[str, ...]
    dominated: tuple[str, ...]


def standings(rows: Sequence[Row], objectives: Mapping[str, str], paired: Paired) -> tuple[Standing, ...]:
    """The feasible merges against every baseline, expert and base, in that order."""
    merges = [row for row in rows if row["kind"] == "merge" and row["feasible"]]
    result = []
    for kind in ("baseline", "expert", "base"):
        for reference in (row for row in rows if row["kind"] == kind):
            outcome = {row["id"]: compare(row, reference, objectives, paired) for row in merges}
            compared = [row for row in merges if outcome[row["id"]] is not None]

            def labels(*wanted: Outcome, front: bool, rows: list[Row] = compared, o: Any = outcome) -> tuple[str, ...]:
                return tuple(r["label"] for r in rows if o[r["id"]] in wanted and (r["front"] or not front))

            used = dict.fromkeys(shared_split(row, reference, tuple(objectives)) for row in compared)
            result.append(
                Standing(
                    reference=reference,
                    compared=tuple(row["label"] for row in compared),
                    splits=tuple(str(split) for split in used),
                    front=tuple(row["label"] for row in compared if row["front"]),
                    front_dominates=labels("dominates", front=True),
                    front_ahead=labels("ahead", front=True),
                    front_dominated=labels("dominated", front=True),
                    dominated=labels("dominated", front=False),
                )
            )
    return tuple(result)


def count(number: int, noun: str) -> str:
    """`no merges`, `1 merge`, `12 merges`."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = list(words) or [""]
    return f"{', '.join(head)} and {last}" if head else last


def headline(rows: Sequence[Row], objectives: Mapping[str, str], results: Sequence[Standing]) -> list[str]:
    """The result in plain sentences, each computed from the rows."""
    front = [row for row in rows if row["front"]]
    if not rows:
        return ["No model has been scored yet."]
    kinds = [(kind, sum(row["kind"] == kind for row in front)) for kind in ("merge", "expert", "baseline", "base")]
    parts = listed("the base" if kind == "base" else count(n, kind) for kind, n in kinds if n)
    splits = dict.fromkeys(row["scores"][n]["split"] for row in front for n in objectives if n in row["scores"])
    where = "on the " + listed(str(s) for s in splits) + (" split" if len(splits) == 1 else " splits, mixed")
    confirmed = sum(all(score["split"] == "report" for score in row["scores"].values()) for row in rows)
    if list(splits) == ["report"] and confirmed < len(rows):
        where += f", where {count(confirmed, 'model')} {'was' if confirmed == 1 else 'were'} scored again"
    sentences = [
        f"The front holds {count(len(front), 'point')} of the {count(len(rows), 'model')} scored"
        + (f": {parts}, {where}." if front else ".")
    ]
    if not any(row["kind"] == "merge" for row in rows):
        return [*sentences, "No merge was scored, so this run says nothing about merging."]
    baselines = [standing for standing in results if standing.reference["kind"] == "baseline"]
    if not baselines:
        sentences.append("No baseline was scored, so this run does not show whether merging beats mixing the data.")
    merges = any(row["kind"] == "merge" for row in front)
    return sentences + [_against(standing, merges) for standing in baselines]


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _against(standing: Standing, merges_on_front: bool) -> str:
    name = f"baseline {standing.reference['label']}"
    if not standing.compared:
        return f"The {name} shares no split with any feasible merge, so they were not compared."
    merges, best = count(len(standing.front), "merge"), standing.front_dominates
    if not merges_on_front:
        text = f"No merge is on the front, so none there dominates the {name}"
    elif not standing.front:
        text = f"No merge on the front shares a split with the {name}"
    else:
        which = (
            f"{len(best)} ({_some(best)}) {'dominates' if len(best) == 1 else 'dominate'}" if best else "none dominates"
        )
        text = f"Of the {merges} on the front, {which} the {name} outside 2 standard errors"
    if standing.front_ahead:
        text += f" ({len(standing.front_ahead)} {'more ' if best else ''}ahead in value, inside the noise)"
    beaten, beaten_front = len(standing.dominated), len(standing.front_dominated)
    text += f"; the baseline dominates {beaten or 'none'} of the {count(len(standing.compared), 'merge')} compared"
    text += f", {beaten_front} of them on the front" if beaten else ""
    if not standing.reference["feasible"]:
        text += " (the baseline itself breaks a constraint)"
    return text + "."


def optimism(row: Row, objectives: Mapping[str, str]) -> dict[str, tuple[float, float | None]]:
    """Search value less report value, signed so that above 0 means "the search was too hopeful".

    Returns:
        Objective -> (gap, its standard error; None if one of the two is unknown). The two splits share no items, so
        the errors add in quadrature. Objectives without both scores are left out.
    """
    gaps: dict[str, tuple[float, float | None]] = {}
    for name, direction in objectives.items():
        search, report = row["search"].get(name), row["scores"].get(name)
        if search and report and report["split"] != search["split"]:
            gap = search["v"] - report["v"]
            known = search["se"] is not None and report["se"] is not None
            stderr = math.hypot(search["se"], report["se"]) if known else None
            gaps[name] = (gap if direction == "max" else -gap, stderr)
    return gaps
