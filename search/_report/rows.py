"""The rows of the report: one clean record a point, from which the page and the CSV are both written.

The front document is taken as it is printed by `mergefront front RUN --json` (docs: the front document). A number
that is not finite becomes "unknown" (None): such a value never reaches the page or the CSV.
"""

import csv
import io
import json
import math
import numbers
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DASH = "–"
_FIRST = ("id", "kind", "method", "on_front", "feasible", "p_on_front", "picks")


def clean(value: Any) -> Any:
    """`value` as JSON holds it: dicts with text keys, lists, text, finite numbers, booleans, None."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [clean(item) for item in value]
    return str(value)


def number(value: float | int | None) -> str:
    """A number to read: thousands grouped, three decimals below ten, a dash where it is unknown."""
    if value is None:
        return DASH
    size = abs(value)
    if isinstance(value, int) or size >= 1000:
        return f"{value:,.0f}"
    if size == 0 or size >= 0.0005:
        return f"{value:.3f}" if size < 10 else f"{value:.1f}"
    return f"{value:.1e}"


def score_text(value: float | None, stderr: float | None) -> str:
    """`0.873 ± 0.012`: the value and one standard error, both with the same number of decimals."""
    if value is None:
        return DASH
    if stderr is None:
        return f"{number(value)} ± ?"
    digits = 3 if max(abs(value), stderr) < 100 else 1
    if 0 < stderr < 0.0005:
        digits = 5
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"


def value_text(value: Any) -> str:
    """A parameter or a machine fact as text: lists joined by commas, booleans as true and false."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return DASH
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(value_text(item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(item)}" for key, item in value.items())
    return str(value)


def weights_of(raw: Any) -> list[tuple[str, str, float]]:
    """Weights as (layer group, expert, weight) triples; the group is "" where one set serves the whole model.

    Takes `{expert: w}`, `{group: {expert: w}}` and `{expert: [w of group 0, w of group 1, ...]}`.
    """
    found: list[tuple[str, str, float]] = []
    for key, value in (raw or {}).items():
        if isinstance(value, dict):
            found += [(key, expert, w) for expert, w in value.items() if w is not None]
        elif isinstance(value, list):
            found += [(f"group {i}", key, w) for i, w in enumerate(value) if w is not None]
        elif value is not None:
            found.append(("", key, value))
    return found


def _scores(raw: Any) -> dict[str, dict[str, Any]]:
    kept = {}
    for name, score in (raw or {}).items():
        value, stderr = score.get("value"), score.get("stderr")
        if value is not None:
            text = score_text(value, stderr)
            kept[name] = {
                "v": value,
                "se": stderr,
                "low": score.get("low"),
                "high": score.get("high"),
                "n": score.get("n"),
                "split": score.get("split"),
                "text": text,
            }
    return kept


def label_of(identity: str, kind: str = "merge") -> str:
    """`#12` for the merge 12, as the command line calls it; the name of any other model."""
    return f"#{identity}" if kind == "merge" and not identity.startswith("#") else identity


def rows_of(front: Mapping[str, Any], run: str = "RUN") -> tuple[dict[str, Any], ...]:
    """One record a point, in the document's order, ready for JSON.

    Args:
        front: the cleaned front document.
        run: the run's directory, for the export commands.

    Returns:
        Records with id, label, kind, method, params (name and text pairs), weights (triples, see `weights_of`),
        scores and search (by name: v, se, low, high, n, split, text), languages (by language and name, the same),
        feasible, front, violations (constraint and gap pairs), p (probability of being on the front, or None), picks,
        command (shell text that exports the point).
    """
    names: dict[str, list[str]] = {}
    for pick, identity in (front.get("picks") or {}).items():
        names.setdefault(str(identity), []).append(pick)
    rows = []
    for point in front.get("points") or []:
        identity = str(point["id"])
        kind = point.get("kind") or "merge"
        label = label_of(identity, kind)
        rows.append(
            {
                "id": identity,
                "label": label,
                "kind": kind,
                "method": point.get("method"),
                "params": [[name, value_text(value)] for name, value in (point.get("params") or {}).items()],
                "weights": [list(triple) for triple in weights_of(point.get("weights"))],
                "scores": _scores(point.get("scores")),
                "search": _scores(point.get("search_scores")),
                "languages": {language: _scores(scores) for language, scores in (point.get("languages") or {}).items()},
                "feasible": point.get("feasible") is not False,
                "front": bool(point.get("on_front")),
                "violations": [list(pair) for pair in (point.get("violations") or {}).items() if pair[1] is not None],
                "p": point.get("p_on_front"),
                "picks": names.get(identity, []),
                "command": f"mergefront export {shlex.quote(run)} --pick {shlex.quote(label)} --out DIR",
            }
        )
    return tuple(rows)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif value != {}:
        yield path, value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def csv_text(front: Mapping[str, Any]) -> str:
    """The front as CSV (RFC 4180 quoting, newline-terminated): one row a point, in the document's order.

    A column is a path in the point's own object (`scores.general.value`, `weights.safety`, `languages.hi.safety.n`),
    so the CSV says nothing that the document does not say. Numbers are written so that they read back to the same
    value; what a point lacks is empty; lists are JSON.

    Args:
        front: the cleaned front document.
    """
    picks: dict[str, list[str]] = {}
    for pick, identity in (front.get("picks") or {}).items():
        picks.setdefault(str(identity), []).append(pick)
    flat = []
    for point in front.get("points") or []:
        named = {**point, "picks": " ".join(picks.get(str(point["id"]), []))}
        flat.append(dict(_leaves(named)))
    seen = dict.fromkeys(path for row in flat for path in row)  # a dict and not a set: order is data
    columns: list[tuple[str, ...]] = [(name,) for name in _FIRST if (name,) in seen or name == "id"]
    for prefix in ("scores", None):
        columns += [p for p in seen if p not in columns and prefix in (p[0], None)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(".".join(path) for path in columns)
    writer.writerows([_cell(row.get(path)) for path in columns] for row in flat)
    return out.getvalue()
