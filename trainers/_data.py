"""Data sources to one training data set: load, filter by language, mix by probability.

The order of the samples is a function of the seed and of the sources alone. A training takes ``steps * batch``
samples, whatever the weights of the mixture: with ``interleave_datasets(stopping_strategy="first_exhausted")``
the length of an epoch would depend on the weights, and two mixtures would not get equal budgets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, IterableDatasetDict, concatenate_datasets, load_dataset

from ._errors import InputError
from ._types import Source, TrainSpec

LOCAL_FORMATS = ("json", "parquet", "csv")


def load_source(source: Source, languages: Sequence[str]) -> tuple[Dataset, np.ndarray]:
    """All rows of one source in the columns ``prompt`` and ``completion``, and which of them are in `languages`.

    The kept rows come as (n,) int64 indices, not as a selection: later steps would copy the texts of a selection.

    Raises:
        InputError: unreadable files, a missing column, a row without text, nothing left after the filter.
    """
    columns = {"prompt": "prompt", "response": "response", "language": "language", **dict(source.columns)}
    unknown = sorted(set(columns) - {"prompt", "response", "language"})
    if unknown:
        raise InputError(
            f"data source {source.name!r} maps the column {unknown[0]!r}; "
            "training data has prompt, response and language"
        )
    rows = _read(source)
    if source.languages:
        languages = [language for language in source.languages if not languages or language in languages]
        if not languages:
            raise InputError(f"data source {source.name!r} and its training have no language in common")
    needed = ["prompt", "response"] + (["language"] if languages else [])
    for ours in needed:
        if columns[ours] not in rows.column_names:
            raise InputError(
                f"data source {source.name!r} has no column {columns[ours]!r} (for {ours}); "
                f"it has {', '.join(rows.column_names)}: map it under columns"
            )
    if not len(rows):
        raise InputError(f"data source {source.name!r} is empty")
    kept = np.arange(len(rows))
    if languages:
        wanted = frozenset(languages)
        present = rows[columns["language"]][:]
        kept = np.flatnonzero([language in wanted for language in present])
        if not len(kept):
            found = ", ".join(sorted({str(language) for language in present})) or "no rows"
            raise InputError(f"data source {source.name!r} has nothing in {', '.join(languages)}; it has {found}")
    if columns["prompt"] == columns["response"]:
        raise InputError(f"data source {source.name!r} maps prompt and response to one column")
    rows = rows.select_columns([columns["prompt"], columns["response"]])
    # In two moves, so that files whose response column is called "prompt" can be renamed too.
    rows = rows.rename_columns({columns["prompt"]: "our prompt", columns["response"]: "our completion"})
    rows = rows.rename_columns({"our prompt": "prompt", "our completion": "completion"})
    for column in ("prompt", "completion"):
        missing = sum(chunk.null_count for chunk in rows.data.column(column).chunks)
        if missing:
            raise InputError(
                f"data source {source.name!r}: {missing} rows have no {column}; remove them or fill them in"
            )
    return rows, kept


def plan(sizes: Sequence[int], probabilities: Sequence[float], samples: int, seed: int) -> np.ndarray:
    """Which row of which source each sample is.

    A source is drawn for every sample; inside a source every row comes once, shuffled, before any comes again.
    The order inside a source depends on the seed and the source's position only, not on the probabilities.

    Args:
        sizes: rows of each source, all above 0.
        probabilities: chance of each source.
        samples: how many to draw.
        seed: any integer.

    Returns:
        (samples, 2) int64: source, row.
    """
    assert all(size > 0 for size in sizes)
    weights = np.asarray(probabilities, dtype=np.float64)
    drawn = np.random.default_rng([seed % 2**63, 0]).choice(len(sizes), size=samples, p=weights / weights.sum())
    result = np.empty((samples, 2), dtype=np.int64)
    result[:, 0] = drawn
    for source, size in enumerate(sizes):
        places = np.flatnonzero(drawn == source)
        passes = -(-len(places) // size)
        orders = [np.random.default_rng([seed % 2**63, 1, source, turn]).permutation(size) for turn in range(passes)]
        if orders:
            result[places, 1] = np.concatenate(orders)[: len(places)]
    return result


def training_rows(spec: TrainSpec) -> Dataset:
    """The ``steps * batch`` samples of a training, in order: ``prompt``, ``completion`` and ``source`` (its index).

    Raises:
        InputError: see ``load_source``.
    """
    tables, kept = zip(*(load_source(source, spec.languages) for source in spec.sources), strict=True)
    kinds = {str(rows.features["prompt"]) + str(rows.features["completion"]) for rows in tables}
    if len(kinds) > 1:
        names = ", ".join(source.name for source in spec.sources)
        raise InputError(
            f"the sources {names} hold different kinds of prompts or responses (text, message lists); "
            "bring them to one kind"
        )
    draws = plan(
        [len(rows) for rows in kept],
        [source.probability for source in spec.sources],
        spec.steps * spec.batch,
        spec.seed,
    )
    marked = [rows.add_column("source", [place] * len(rows)) for place, rows in enumerate(tables)]
    starts = np.cumsum([0, *(len(rows) for rows in tables)])
    places = np.empty(len(draws), dtype=np.int64)
    for source, rows in enumerate(kept):
        mine = draws[:, 0] == source
        places[mine] = starts[source] + rows[draws[mine, 1]]
    return concatenate_datasets(marked).select(places)


def _read(source: Source) -> Dataset:
    if source.path in LOCAL_FORMATS and not source.files:
        raise InputError(f"data source {source.name!r} names no files")
    for file in source.files:
        if "://" not in file and not Path(file).is_file():
            raise InputError(f"data source {source.name!r}: there is no file {file}")
    options: dict[str, Any] = {"data_files": list(source.files)} if source.files else {}
    split = "train" if source.path in LOCAL_FORMATS else source.split
    try:
        rows = load_dataset(source.path, split=split, **options)
    # Whatever a reader of foreign files raises (parser, hub, file system: no common base), the user's remedy is one.
    except Exception as error:
        cause = error.__cause__ or error
        first = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise InputError(f"data source {source.name!r} cannot be read as {source.path}: {first}") from error
    if isinstance(rows, (DatasetDict, IterableDatasetDict)):
        raise InputError(f"data source {source.name!r}: name one split of {', '.join(rows)}")
    return rows
