"""Data sources to one training data set: load, filter by language, mix by probability.

The order of the samples is a function of the seed and of the sources alone. A training takes ``steps * batch``
samples, whatever the weights of the mixture: with ``interleave_datasets(stopping_strategy="first_exhausted")``
the length of an epoch would depend on the weights, and two mixtures would not get equal budgets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, DatasetDict, IterableDatasetDict, concatenate_datasets, load_dataset
from numpy.typing import NDArray

from ._errors import InputError
from ._types import Columns, Source, TrainSpec

LOCAL_FORMATS = ("json", "parquet", "csv")


class Table(NamedTuple):
    """One source as it was read.

    Attributes:
        rows: all of them, in the columns of the trainer under our names.
        kept: (n,) int64, which of them are in the wanted languages; indices, not a selection: later steps would copy
            the texts of a selection.
        languages: the language of every row; None where the data do not say.
    """

    rows: Dataset
    kept: NDArray[np.int64]
    languages: list[str] | None


class Mixture(NamedTuple):
    """The samples of a training, in order.

    Attributes:
        rows: the trainer's columns, and ``group``, an index into `groups`.
        groups: pairs (source, language) of all rows of the sources; the language is "" where the data do not say.
        sizes: rows of each group that can be drawn.
    """

    rows: Dataset
    groups: tuple[tuple[str, str], ...]
    sizes: tuple[int, ...]


def load_source(source: Source, columns: Columns, languages: Sequence[str]) -> Table:
    """All rows of one source, checked.

    Args:
        source: what to read.
        columns: what the trainer needs.
        languages: values of the language column to keep; empty keeps all.

    Raises:
        InputError: unreadable files, a missing column, a row without text, nothing left after the filter.
    """
    names = _names(source, columns)
    rows = _read(source)
    needed = _alternative(source, columns, names, rows.column_names)
    if not len(rows):
        raise InputError(f"data source {source.name!r} is empty")
    present = _languages(source, names, rows)
    wanted = [language for language in source.languages or languages if not languages or language in languages]
    if source.languages and not wanted:
        raise InputError(f"data source {source.name!r} and its training have no language in common")
    kept = np.arange(len(rows))
    if wanted:
        if present is None:
            raise InputError(
                f"data source {source.name!r} has no column {names['language']!r} (for language); "
                f"it has {', '.join(rows.column_names)}: map it under columns"
            )
        kept = np.flatnonzero([language in wanted for language in present])
        if not len(kept):
            found = ", ".join(sorted({str(language) for language in present}))
            raise InputError(f"data source {source.name!r} has nothing in {', '.join(wanted)}; it has {found}")
    others = [name for name in rows.column_names if columns.others and name not in names.values()]
    rows = rows.select_columns([names[ours] for ours in needed] + others)
    # In two moves, so that files whose response column is called "prompt" can be renamed too.
    rows = rows.rename_columns({names[ours]: f"our {ours}" for ours in needed})
    rows = rows.rename_columns({f"our {ours}": ours for ours in needed})
    _check_texts(source, rows, needed)
    return Table(rows, kept, present)


def plan(sizes: Sequence[int], probabilities: Sequence[float], samples: int, seed: int) -> NDArray[np.int64]:
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


def mixture(spec: TrainSpec, columns: Columns, copies: int = 1) -> Mixture:
    """The ``steps * batch`` samples of a training, in order.

    Args:
        spec: the training.
        columns: what the trainer needs.
        copies: how many times in a row every row comes; divides the batch.

    Raises:
        InputError: see `load_source`; sources that hold different kinds of values.
    """
    tables = [load_source(source, columns, spec.languages) for source in spec.sources]
    kinds = {str(sorted((name, str(kind)) for name, kind in table.rows.features.items())) for table in tables}
    if len(kinds) > 1:
        names = ", ".join(source.name for source in spec.sources)
        raise InputError(
            f"the sources {names} hold different kinds of columns (texts, message lists); bring them to one kind"
        )
    draws = plan(
        [len(table.kept) for table in tables],
        [source.probability for source in spec.sources],
        spec.steps * spec.batch // copies,
        spec.seed,
    )
    groups, marked = _groups(spec.sources, tables)
    starts = np.cumsum([0, *(len(table.rows) for table in tables)])
    places = np.empty(len(draws), dtype=np.int64)
    sizes = np.zeros(len(groups), dtype=np.int64)
    for source, table in enumerate(tables):
        sizes += np.bincount(np.asarray(marked[source]["group"])[table.kept], minlength=len(groups))
        mine = draws[:, 0] == source
        places[mine] = starts[source] + table.kept[draws[mine, 1]]
    return Mixture(concatenate_datasets(marked).select(np.repeat(places, copies)), groups, tuple(sizes.tolist()))


def _groups(sources: Sequence[Source], tables: Sequence[Table]) -> tuple[tuple[tuple[str, str], ...], list[Dataset]]:
    """All pairs (source, language), and the tables with the column ``group``."""
    groups: list[tuple[str, str]] = []
    marked = []
    for source, table in zip(sources, tables, strict=True):
        spoken = [""] * len(table.rows) if table.languages is None else [str(name or "") for name in table.languages]
        codes = {name: len(groups) + place for place, name in enumerate(sorted(set(spoken)))}
        groups += [(source.name, name) for name in codes]
        marked.append(table.rows.add_column("group", [codes[name] for name in spoken]))
    return tuple(groups), marked


def _names(source: Source, columns: Columns) -> dict[str, str]:
    """Our names -> names in the files."""
    ours = tuple(dict.fromkeys([name for needs in columns.needs for name in needs] + ["language"]))
    names = {name: name for name in ours} | dict(source.columns)
    unknown = sorted(set(names) - set(ours))
    if unknown:
        raise InputError(
            f"data source {source.name!r} maps the column {unknown[0]!r}; the data of this training has "
            f"{', '.join(ours[:-1])} and {ours[-1]}"
        )
    for one in names:
        for other in names:
            if one < other and names[one] == names[other] and {one, other} <= dict(source.columns).keys():
                raise InputError(f"data source {source.name!r} maps {one} and {other} to one column")
    return names


def _alternative(source: Source, columns: Columns, names: dict[str, str], present: Sequence[str]) -> tuple[str, ...]:
    """The first alternative whose columns are all there."""
    found = [needs for needs in columns.needs if all(names[ours] in present for ours in needs)]
    if found:
        return found[0]
    # The one that lacks least is the one that was meant.
    nearest = min(columns.needs, key=lambda needs: sum(names[ours] not in present for ours in needs))
    ours = next(ours for ours in nearest if names[ours] not in present)
    raise InputError(
        f"data source {source.name!r} has no column {names[ours]!r} (for {ours}); "
        f"it has {', '.join(present)}: map it under columns"
    )


def _languages(source: Source, names: dict[str, str], rows: Dataset) -> list[str] | None:
    return list(rows[names["language"]]) if names["language"] in rows.column_names else None


def _check_texts(source: Source, rows: Dataset, needed: Sequence[str]) -> None:
    for column in needed:
        missing = sum(chunk.null_count for chunk in rows.data.column(column).chunks)
        if missing:
            raise InputError(
                f"data source {source.name!r}: {missing} rows have no {column}; remove them or fill them in"
            )
    if "messages" in needed:
        for number, messages in enumerate(rows["messages"]):
            if not any(message.get("role") == "assistant" for message in messages):
                raise InputError(f"data source {source.name!r}: row {number + 1} has no message of the assistant")


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
