"""The held-out share of a tuned training's data: which rows no trial sees, and the items that the loss is measured on.

A row is held out by the hash of its prompt, so that a prompt with several responses lies on one side, whatever the
order of the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluators._types import Item
from search.scoring.objective import Grader
from trainers._types import Source, TrainSpec

MOST_ITEMS = 256
"""Held-out rows of one source that the loss is measured on: its error is then about a twentieth of a row's spread."""


class NothingHeldOut(ValueError):
    """A source of which no row is held out, or all are."""


def split(spec: TrainSpec, share: float, folder: Path) -> tuple[TrainSpec, tuple[Grader, ...], dict[str, float]]:
    """Divide the data of a training.

    Args:
        spec: the training.
        share: of the prompts, to be held out.
        folder: for the files of what is trained on; made if missing, used again if they are there.

    Returns:
        The training on the other rows; a grader for each source, named as it, whose values are exp(-loss) of a row;
        the sources' shares of the mixture.

    Raises:
        NothingHeldOut: a source that is too small for the share, or whose rows are conversations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources, graders = [], []
    for source in spec.sources:
        columns = dict(source.columns)
        prompt, response = columns.get("prompt", "prompt"), columns.get("response", "response")
        language = columns.get("language", "language")
        rows = _rows(source)
        if rows and not isinstance(rows[0].get(prompt), str):
            raise NothingHeldOut(f"data {source.name} holds conversations; choose an evaluator as the metric")
        wanted = (*spec.languages, *source.languages)
        held = [_held(str(row[prompt]), spec.seed, share) for row in rows]
        items = [
            Item(
                id=f"{source.name}/{place}",
                prompt=row[prompt],
                answer=row[response],
                language=str(row.get(language, "")),
                group=f"{source.name}/{place}",
                task="",
                split="search",
            )
            for place, (row, out) in enumerate(zip(rows, held, strict=True))
            if out and (not wanted or str(row.get(language)) in wanted)
        ]
        kept = [row for row, out in zip(rows, held, strict=True) if not out]
        if not items or not kept:
            raise NothingHeldOut(
                f"data {source.name}: {len(items)} rows are held out and {len(kept)} left to train on; "
                "change holdout, or choose an evaluator as the metric"
            )
        file = folder / f"{source.name}.parquet"
        _write(file, kept)
        sources.append(replace(source, path="parquet", files=(str(file),), split="train"))
        chosen = sorted(items, key=lambda item: _number(item.id, spec.seed))[:MOST_ITEMS]
        graders.append(Grader(source.name, "perplexity", (), tuple(chosen)))
    shares = {source.name: source.probability for source in spec.sources}
    return replace(spec, sources=tuple(sources)), tuple(graders), shares


def _rows(source: Source) -> list[Mapping[str, Any]]:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    options: dict[str, Any] = {"data_files": list(source.files)} if source.files else {}
    rows: Iterable[Mapping[str, Any]] = load_dataset(
        source.path, split="train" if source.files else source.split, **options
    )
    return list(rows)


def _write(file: Path, rows: list[Mapping[str, Any]]) -> None:
    from datasets import Dataset

    if file.is_file():
        return
    unfinished = file.with_suffix(".part")
    Dataset.from_list([dict(row) for row in rows]).to_parquet(str(unfinished))
    unfinished.replace(file)


def _held(prompt: str, seed: int, share: float) -> bool:
    return _number(prompt, seed) < share * 2**64


def _number(text: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{text}".encode()).digest()[:8], "big")
