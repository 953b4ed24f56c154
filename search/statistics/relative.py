"""Harm relative to the base model, as the papers state it, beside the absolute share that is searched on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.recipe import Recipe
from search.run.items import items_file, read_values
from search.store import Store

KINDS = ("judge_harm",)
"""Evaluators whose papers report a change relative to the base."""


def relative_changes(
    recipe: Recipe, store: Store, folder: Path, splits: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Point -> evaluator -> change in percent of the base's value, with error, count, and the same by language.

    Args:
        recipe: of the run.
        store: its database.
        folder: of per-item results.
        splits: point -> split that its scores are of.

    Returns:
        Only points and evaluators with results of the same items of the base, and a base that is not at zero.
    """
    names = [name for name, spec in recipe.evaluators.items() if spec.kind in KINDS]
    found: dict[str, dict[str, Any]] = {}
    if not names:
        return found
    bases: dict[str, Mapping[str, NDArray[Any]]] = {}
    for point, split in splits.items():
        if split not in bases:
            base = items_file(folder, "base", split)
            bases[split] = read_values(folder, "base", split) if base.is_file() else {}
        if not items_file(folder, point, split).is_file():
            continue
        values = read_values(folder, point, split)
        groups, languages = (store.get(f"{what}.{split}", {}) for what in ("groups", "languages"))
        rows = {
            name: change
            for name in names
            if name in values and name in bases[split] and name in groups
            if (change := _change(values[name], bases[split][name], groups[name], languages.get(name, []))) is not None
        }
        if rows:
            found[point] = rows
    return found


def relative_line(document: Mapping[str, Any]) -> str:
    """The changes of the points on the front as a line for each evaluator; "" where there are none."""
    rows = [row for row in document["points"] if row["on_front"] and row.get("relative")]
    lines = []
    for name in dict.fromkeys(name for row in rows for name in row["relative"]):
        texts = []
        for row in rows:
            if name in row["relative"]:
                change = row["relative"][name]
                label = f"#{row['id']}" if row["kind"] == "merge" else row["id"]
                texts.append(f"{label} {change['value']:+.1f} ± {change['stderr']:.1f} %")
        lines.append(f"{name} relative to base: {', '.join(texts)}")
    return "\n".join(lines)


def _change(
    values: NDArray[Any], base: NDArray[Any], groups: Sequence[str], languages: Sequence[str]
) -> dict[str, Any] | None:
    """Of the first items where a race dropped the point."""
    from evaluators.judges.relative import relative_change

    n = len(values)
    whole = relative_change(values, base[:n], groups[:n])
    if whole is None:
        return None
    by_language = {}
    for language in dict.fromkeys(languages[:n]):
        rows = np.flatnonzero(np.asarray(languages[:n]) == language).tolist()
        change = relative_change(values[rows], base[rows], [groups[row] for row in rows])
        if change is not None:
            by_language[language] = {"value": change.value, "stderr": change.stderr, "n": change.n}
    return {"value": whole.value, "stderr": whole.stderr, "n": whole.n, "languages": by_language}
