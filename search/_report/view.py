"""Front document and history -> the one record that the page is written from."""

from collections.abc import Mapping
from typing import Any

from search.results.partners import columns

from .comparisons import comparisons_note
from .history import hypervolume_of
from .rows import rows_of
from .training import costs_of, training_of
from .verdict import headline, paired_of, standings


def view_of(front: Mapping[str, Any], history: Mapping[str, Any], run: str = "RUN") -> dict[str, Any]:
    """Everything the page shows.

    Args:
        front: the cleaned front document. Besides the documented keys these are shown where present: `picks`
            (name -> id), `constraints` (texts), `hypervolume_interval`, `optimism`,
            `items`, `look_alikes` (evaluator -> evaluator), and in points `search_scores` (as `scores`) and
            `violations` (constraint -> gap).
        history: the cleaned history; any part may be missing.
        run: the run's directory, for the export commands.
    """
    objectives = {name: "min" if way == "min" else "max" for name, way in (front.get("objectives") or {}).items()}
    raw = front.get("reference")
    if isinstance(raw, list):
        raw = dict(zip(objectives, raw, strict=False))
    reference = {name: raw[name] for name in objectives if raw.get(name) is not None} if raw else {}
    rows = rows_of(front, run)
    paired = paired_of(history)
    results = standings(rows, objectives, paired)
    curve = hypervolume_of(history, rows, objectives, reference)
    # Methods keep the order in which they were first scored, so that symbols and colours agree in every figure.
    named = [row["method"] for row in rows if row["kind"] == "merge"] + [point["method"] for point in curve]
    return {
        "run": str(front.get("run", "")),
        "objectives": objectives,
        "columns": columns(objectives, front.get("look_alikes") or {}),
        "comparisons": comparisons_note(rows, objectives, paired),
        "hypervolume": front.get("hypervolume"),
        "interval": front.get("hypervolume_interval"),
        "level": front.get("level"),
        "optimism": front.get("optimism") or {},
        "items": front.get("items") or {},
        "reference": reference,
        "constraints": [str(text) for text in front.get("constraints") or []],
        "stopped": {str(name): str(reason) for name, reason in (front.get("stopped") or {}).items()},
        "picks": {name: str(identity) for name, identity in (front.get("picks") or {}).items()},
        "methods": list(dict.fromkeys(str(method) for method in named if method is not None)),
        "rows": rows,
        "headline": headline(rows, objectives, results),
        "standings": results,
        "curve": curve,
        "training": training_of(history),
        "costs": costs_of(history, rows),
        "tokens": history.get("tokens") or [],
        "tunings": history.get("tunings") or {},
        "matches": history.get("matches") or [],
        "contamination": history.get("contamination") or [],
        "failed": history.get("failed") or [],
        "timing": history.get("timing") or {},
        "machine": history.get("machine") or {},
    }
