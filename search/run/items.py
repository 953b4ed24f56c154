"""Per-item results beside the database: one parquet file per point and split, and the scores made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators._stats import score_of
from evaluators._types import Item, Score

from .disk import patient

if TYPE_CHECKING:
    import numpy as np

    from search.scoring.objective import Grader, Results


def scores_of(
    results: Results, graders: Sequence[Grader], split: str, counts: Mapping[str, int] | None = None
) -> dict[tuple[str, str], Score]:
    """Scores over all languages (language "") and by language, of every evaluator.

    Args:
        results: of the first items of each evaluator.
        graders: evaluators with their items.
        split: of the items.
        counts: evaluator -> how many items were scored; None: all. One without any item has no score.

    Raises:
        ValueError: a result that is not finite, or not one number per item.
    """
    import numpy as np

    found: dict[tuple[str, str], Score] = {}
    for grader in graders:
        items = grader.split(split)[: None if counts is None else counts[grader.name]]
        if not items:
            continue
        values = np.asarray(results[grader.name], dtype=np.float64)
        if values.shape != (len(items),):
            raise ValueError(f"{grader.name}: {values.shape} results for {len(items)} items")
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(f"{grader.name}: {bad} of {len(items)} items have a non-finite result")
        groups = [item.group for item in items]
        found[grader.name, ""] = score_of(values, groups)
        for language in dict.fromkeys(item.language for item in items):
            rows = [index for index, item in enumerate(items) if item.language == language]
            found[grader.name, language] = score_of(values[rows], [groups[row] for row in rows])
    return found


def write_items(folder: Path, point: str, split: str, results: Results, graders: Sequence[Grader]) -> None:
    """Write one point's per-item results of the first items; atomic, overwriting what an earlier stage or try left.

    Raises:
        DiskFull: there was no room for it for too long.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[tuple[str, Item]] = [
        (grader.name, item) for grader in graders for item in grader.split(split)[: len(results[grader.name])]
    ]
    table = pa.table(
        {
            "evaluator": pa.array([name for name, _ in rows]).dictionary_encode(),
            "item": pa.array([item.id for _, item in rows]),
            "language": pa.array([item.language for _, item in rows]).dictionary_encode(),
            "group": pa.array([item.group for _, item in rows]),
            "value": pa.array(np.concatenate([results[grader.name] for grader in graders])),
        }
    )
    target = items_file(folder, point, split)
    partial = target.with_suffix(f".{os.getpid()}.part")

    def write() -> None:
        try:
            pq.write_table(table, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError:
            partial.unlink(missing_ok=True)  # half a file would keep the room that is missed
            raise

    patient(write, str(target))


def joined(earlier: Results, later: Results) -> Results:
    """Results of a stage put behind those of the stages before it."""
    import numpy as np

    empty = np.zeros(0, dtype=np.float32)
    return {
        name: np.concatenate([earlier.get(name, empty), later.get(name, empty)])
        for name in dict.fromkeys((*earlier, *later))
    }


def read_values(folder: Path, point: str, split: str) -> Mapping[str, np.ndarray[Any, Any]]:
    """Evaluator -> per-item values (float32, item order) of one point: of all items, or of the first that it had."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(items_file(folder, point, split), columns=["evaluator", "value"])
    names = np.asarray(table["evaluator"].to_pylist())
    values = table["value"].to_numpy()
    return {str(name): values[names == name] for name in dict.fromkeys(names.tolist())}


def items_file(folder: Path, point: str, split: str) -> Path:
    """Where a point's per-item results of a split lie."""
    return folder / f"{point}.{split}.parquet"
